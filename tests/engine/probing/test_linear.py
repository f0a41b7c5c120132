"""Linear probes: those of scikit-learn to three decimals, and what the scaling may see."""

from __future__ import annotations

import numpy as np
import pytest

from engine.probing.linear import Scaling, fit, train


def clouds(seed: int, *, count: int = 240, dims: int = 12, classes: int = 4, apart: float = 1.0):
    """Draw classes whose means are `apart` deviations from 0 in a random direction."""
    draw = np.random.default_rng(seed)
    y_N = draw.integers(classes, size=count)
    means_KD = draw.normal(size=(classes, dims)) * apart
    scale_D = draw.uniform(0.1, 30, size=dims)
    return (means_KD[y_N] + draw.normal(size=(count, dims))) * scale_D, y_N


@pytest.mark.parametrize("penalty", [0.1, 1.0, 100.0])
@pytest.mark.parametrize("apart", [0.3, 2.0])
def test_the_fit_is_that_of_scikit_learn(penalty, apart):
    from sklearn.linear_model import LogisticRegression

    x_ND, y_N = clouds(0, apart=apart)
    scaled_ND = Scaling.of(x_ND)(x_ND)
    ours = np.exp(fit(scaled_ND, y_N, num_classes=4, penalty=penalty).log_probabilities(scaled_ND))
    other = LogisticRegression(C=1 / penalty, tol=1e-8, max_iter=10_000).fit(scaled_ND, y_N)
    assert np.abs(ours - other.predict_proba(scaled_ND)).max() < 1e-3
    assert ours.sum(axis=1) == pytest.approx(1.0)


def test_more_dimensions_than_items_change_nothing_but_time():
    from sklearn.linear_model import LogisticRegression

    x_ND, y_N = clouds(1, count=40, dims=90)
    probe = train(
        x_ND, [str(y) for y in y_N], held_out_N=np.zeros(40, dtype=bool), penalties=(10.0,)
    )
    scaled_ND = Scaling.of(x_ND)(x_ND)
    other = LogisticRegression(C=0.1, tol=1e-8, max_iter=10_000).fit(scaled_ND, y_N)
    ours = np.exp(probe.model.log_probabilities(scaled_ND))
    assert np.abs(ours - other.predict_proba(scaled_ND)).max() < 1e-3


def test_the_penalty_is_chosen_on_held_out_items():
    draw = np.random.default_rng(2)
    # Noise in many dimensions: a weak penalty learns it by heart.
    x_ND, y_N = draw.normal(size=(120, 80)), draw.integers(2, size=120)
    x_ND[:, 0] += y_N
    held_out_N = np.arange(120) % 3 == 0
    noisy = train(x_ND, [str(y) for y in y_N], held_out_N=held_out_N)
    clear_ND = np.where(np.arange(80) == 0, 20.0 * y_N[:, None] + x_ND, x_ND)
    clear = train(clear_ND, [str(y) for y in y_N], held_out_N=held_out_N)
    assert noisy.penalty > clear.penalty
    assert clear.held_out_accuracy == 1.0
    assert 0.5 < noisy.held_out_accuracy < 1.0


def test_a_dimension_that_never_changes_counts_as_nothing():
    x_ND, y_N = clouds(3, count=60, dims=3, classes=2, apart=3.0)
    x_ND[:, 1] = 1e9
    probe = train(x_ND, [str(y) for y in y_N], held_out_N=np.zeros(60, dtype=bool))
    answers = probe.predict(x_ND)
    assert np.isfinite(probe.model.weight_KD).all()
    assert np.mean([int(answer) == y for answer, y in zip(answers, y_N, strict=True)]) > 0.9
    assert probe.predict(x_ND[:0]) == []
