"""Multinomial logistic regression by L-BFGS, and the choice of how much it is held back.

Inputs are scaled by the mean and deviation of the training items alone. Free of torch.
Letters: N items, D dimensions, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

# Penalties that are tried, as 1 / C of scikit-learn; strong ones first, so that each fit starts near its end.
PENALTIES = (1e4, 1e3, 1e2, 1e1, 1.0)
_WORSE_TWICE = 2
_TOLERANCE = 1e-6
_MOST_ITERATIONS = 2_000
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Logistic:
    """A fitted classifier of K classes; `log_probabilities` takes what `fit` took."""

    weight_KD: np.ndarray
    bias_K: np.ndarray

    def log_probabilities(self, x_ND: np.ndarray) -> np.ndarray:
        """Return the logarithm of the probability of each class, (N, K)."""
        return _log_softmax(x_ND @ self.weight_KD.T + self.bias_K)


@dataclass(frozen=True, slots=True)
class Scaling:
    """Mean and deviation of each dimension; a dimension that never changes becomes 0."""

    mean_D: np.ndarray
    deviation_D: np.ndarray

    @classmethod
    def of(cls, x_ND: np.ndarray) -> Scaling:
        """Measure items."""
        deviation_D = x_ND.std(axis=0)
        constant_D = deviation_D <= _TINY * (1 + np.abs(x_ND).max(axis=0))
        return cls(x_ND.mean(axis=0), np.where(constant_D, np.inf, deviation_D))

    def __call__(self, x_ND: np.ndarray) -> np.ndarray:
        """Return scaled items, float64."""
        return np.asarray((x_ND - self.mean_D) / self.deviation_D)


def fit(
    x_ND: np.ndarray,
    y_N: np.ndarray,
    *,
    num_classes: int,
    penalty: float,
    start: Logistic | None = None,
) -> Logistic:
    """Minimise the sum of the log losses plus penalty / 2 times the squared weights, biases left out.

    Args:
        x_ND: scaled items.
        y_N: classes from 0.
        num_classes: K; a class may have no item.
        penalty: above 0, so that there is one minimum.
        start: where to begin, for speed.
    """
    count, dims = x_ND.shape
    onehot_NK = np.eye(num_classes)[y_N]

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        theta_KD = flat.reshape(num_classes, dims + 1)
        weight_KD = theta_KD[:, :dims]
        log_NK = _log_softmax(x_ND @ weight_KD.T + theta_KD[:, dims])
        loss = -log_NK[np.arange(count), y_N].sum() + penalty / 2 * (weight_KD**2).sum()
        error_NK = np.exp(log_NK) - onehot_NK
        slope_KD = np.empty_like(theta_KD)
        slope_KD[:, :dims] = error_NK.T @ x_ND + penalty * weight_KD
        slope_KD[:, dims] = error_NK.sum(axis=0)
        # In units of an item, so that the tolerance does not depend on how many there are.
        return float(loss) / count, slope_KD.ravel() / count

    first = np.zeros((num_classes, dims + 1))
    if start is not None:
        first[:, :dims], first[:, dims] = start.weight_KD, start.bias_K
    found = minimize(
        value, first.ravel(), jac=True, method="L-BFGS-B",
        options={"maxiter": _MOST_ITERATIONS, "gtol": _TOLERANCE, "ftol": 1e-12},
    )  # fmt: skip
    theta_KD = found.x.reshape(num_classes, dims + 1)
    return Logistic(theta_KD[:, :dims].copy(), theta_KD[:, dims].copy())


@dataclass(frozen=True, slots=True)
class Trained:
    """A probe that is ready to be tested.

    Attributes:
        classes: names of the K classes, in order.
        penalty: what was chosen.
        held_out_accuracy: on the held-out part of the training items, by that penalty.
    """

    classes: tuple[str, ...]
    scaling: Scaling
    model: Logistic
    penalty: float
    held_out_accuracy: float

    def predict(self, x_ND: np.ndarray) -> list[str]:
        """Return the most likely class of each item."""
        if not len(x_ND):
            return []
        best_N = self.model.log_probabilities(self.scaling(x_ND)).argmax(axis=1)
        return [self.classes[place] for place in best_N]


def train(
    x_ND: np.ndarray,
    labels: Sequence[str],
    *,
    held_out_N: np.ndarray,
    penalties: Sequence[float] = PENALTIES,
) -> Trained:
    """Choose the penalty by the log loss of held-out training items, then fit on all of them.

    Args:
        x_ND: training items.
        labels: the class of each.
        held_out_N: bool, which of them the penalty is chosen on; at least one item is not.
        penalties: those to try, falling.
    """
    classes = tuple(sorted(set(labels)))
    y_N = np.array([classes.index(label) for label in labels])
    rest_N = ~held_out_N
    scaling = Scaling.of(x_ND[rest_N])
    fitted_ND, turn = _turned(scaling(x_ND[rest_N]))
    tested_ND = scaling(x_ND[held_out_N]) @ turn
    chosen, accuracy = _choose(
        (fitted_ND, y_N[rest_N]), (tested_ND, y_N[held_out_N]),
        num_classes=len(classes), penalties=penalties,
    )  # fmt: skip
    scaling = Scaling.of(x_ND)
    all_ND, turn = _turned(scaling(x_ND))
    model = fit(all_ND, y_N, num_classes=len(classes), penalty=chosen)
    model = Logistic(model.weight_KD @ turn.T, model.bias_K)
    return Trained(classes, scaling, model, penalty=chosen, held_out_accuracy=accuracy)


def _choose(
    fitted: tuple[np.ndarray, np.ndarray],
    tested: tuple[np.ndarray, np.ndarray],
    *,
    num_classes: int,
    penalties: Sequence[float],
) -> tuple[float, float]:
    """Return the best penalty and the accuracy that it gives; the middle one where nothing is held out."""
    x_ND, y_N = tested
    if not len(y_N):
        return penalties[len(penalties) // 2], float("nan")
    best, least, accuracy, worse = penalties[0], np.inf, 0.0, 0
    model: Logistic | None = None
    for penalty in penalties:
        model = fit(*fitted, num_classes=num_classes, penalty=penalty, start=model)
        log_NK = model.log_probabilities(x_ND)
        loss = -float(log_NK[np.arange(len(y_N)), y_N].mean())
        if loss < least:
            best, least, worse = penalty, loss, 0
            accuracy = float((log_NK.argmax(axis=1) == y_N).mean())
        else:
            worse += 1
            if worse == _WORSE_TWICE:
                break
    return best, accuracy


def _turned(x_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return items in the space that they span, and the (D, R) turn: no more dimensions than items.

    The penalty is the same in every direction, so the solution is, too.
    """
    count, dims = x_ND.shape
    if dims <= count:
        return x_ND, np.eye(dims)
    turn_DR = np.linalg.svd(x_ND, full_matrices=False)[2].T
    return x_ND @ turn_DR, turn_DR


def _log_softmax(logits_NK: np.ndarray) -> np.ndarray:
    shifted_NK = logits_NK - logits_NK.max(axis=1, keepdims=True)
    return np.asarray(shifted_NK - np.log(np.exp(shifted_NK).sum(axis=1, keepdims=True)))
