"""Claims about clusters: found where they are, as good as scikit-learn's, alike from any kill."""

import math

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from engine.clustering.kmeans import KMeansFit, nearest
from engine.clustering.report import ClusterReport
from engine.item_random import item_generator


def blobs(*, clusters, frames, dim, seed=0, spread=0.15):
    draw = item_generator(seed, 0, 0, "blobs")
    centres_KD = draw.normal(size=(clusters, dim))
    label_F = draw.integers(clusters, size=frames)
    points_FD = centres_KD[label_F] + spread * draw.normal(size=(frames, dim))
    return torch.from_numpy(points_FD.astype(np.float32)), centres_KD, label_F


def fitted(fit, points_FD, *, kills=()):
    """Walk all steps; at each kill only a copy of the state goes on."""
    state = fit.start()
    for index in range(fit.num_steps()):
        if index in kills:
            state = {name: tensor.clone() for name, tensor in state.items()}
        state = fit.step(index, state, points_FD=points_FD)
    return state


def inertia(points_FD, centroids_KD):
    return float(nearest(points_FD, centroids_KD)[1].double().sum())


def test_clusters_are_found_where_they_are():
    points_FD, centres_KD, label_F = blobs(clusters=20, frames=4_000, dim=8)
    state = fitted(KMeansFit(20, seed=3), points_FD)
    found_F, _ = nearest(points_FD, state["centroids"])
    assert len({*zip(found_F.tolist(), label_F.tolist(), strict=True)}) == 20
    distance = torch.cdist(state["centroids"].double(), torch.from_numpy(centres_KD)).amin(dim=1)
    assert distance.max() < 0.1


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_inertia_is_that_of_scikit_learn(seed):
    points_FD, _, _ = blobs(clusters=60, frames=6_000, dim=13, seed=seed, spread=0.7)
    ours = inertia(points_FD, fitted(KMeansFit(40, seed=seed), points_FD)["centroids"])
    peer = KMeans(40, n_init=5, random_state=seed).fit(points_FD.numpy()).inertia_
    assert ours <= 1.01 * peer


def test_more_starts_are_no_worse_and_the_best_one_goes_on():
    points_FD, _, _ = blobs(clusters=60, frames=3_000, dim=4, spread=0.3)
    singles = [
        fitted(KMeansFit(30, seed=seed, starts=1, short=3, iterations=0), points_FD)["best_inertia"]
        for seed in range(6)
    ]
    assert max(singles) > min(singles)
    several = fitted(KMeansFit(30, seed=0, starts=6, short=3, iterations=0), points_FD)
    assert several["best_inertia"] <= singles[0]
    finished = fitted(KMeansFit(30, seed=0, starts=6, short=3), points_FD)
    assert inertia(points_FD, finished["centroids"]) < several["best_inertia"]


def test_the_seed_decides_every_bit_and_a_kill_at_any_step_none():
    points_FD, _, _ = blobs(clusters=60, frames=2_000, dim=6, spread=0.5)
    fit = KMeansFit(40, seed=5, starts=2, short=3, iterations=6)
    whole = fitted(fit, points_FD)["centroids"]
    assert torch.equal(fitted(fit, points_FD, kills=range(fit.num_steps()))["centroids"], whole)
    other = KMeansFit(40, seed=6, starts=2, short=3, iterations=6)
    assert not torch.equal(fitted(other, points_FD)["centroids"], whole)


def test_distances_keep_their_digits_far_from_zero():
    points_FD, _, label_F = blobs(clusters=5, frames=500, dim=4, spread=0.01)
    moved = points_FD + 1_000.0
    found_F, _ = nearest(moved, fitted(KMeansFit(5, seed=0), moved)["centroids"])
    assert len({*zip(found_F.tolist(), label_F.tolist(), strict=True)}) == 5


def test_assignment_is_the_nearest_centroid_over_block_ends():
    points_FD, _, _ = blobs(clusters=9, frames=20_000, dim=5)
    centroids_KD = points_FD[:50].clone()
    label_F, distance_F = nearest(points_FD, centroids_KD)
    exact_FK = torch.cdist(points_FD.double(), centroids_KD.double())
    assert (exact_FK.gather(1, label_F[:, None])[:, 0] <= exact_FK.amin(dim=1) + 1e-6).all()
    torch.testing.assert_close(distance_F.double(), exact_FK.amin(dim=1) ** 2, atol=1e-5, rtol=1e-4)
    assert [len(part) for part in nearest(points_FD[:0], centroids_KD)] == [0, 0]


def test_no_cluster_stays_empty_while_frames_differ():
    # Half of all frames are the same, so k-means++ alone would not help.
    points_FD, _, _ = blobs(clusters=8, frames=400, dim=3, spread=0.01)
    points_FD[:200] = points_FD[0]
    found_F, _ = nearest(points_FD, fitted(KMeansFit(30, seed=1), points_FD)["centroids"])
    assert len(found_F.unique()) == 30


def test_equal_frames_fall_into_one_cluster():
    points_FD = torch.ones(300, 3)
    state = fitted(KMeansFit(7, seed=1), points_FD)
    found_F, distance_F = nearest(points_FD, state["centroids"])
    assert len(found_F.unique()) == 1
    assert distance_F.max() == 0
    assert state["centroids"].isfinite().all()


def test_report_counts_by_hand():
    report = ClusterReport.of(np.array([6, 2, 0, 0, 0]), distance_sum=4.0)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert (report.clusters, report.used, report.frames) == (5, 2, 8)
    assert report.inertia == 0.5
    assert report.perplexity == pytest.approx(math.exp(entropy))
    assert report.largest_share == 0.75
    assert "only 2 of 5 clusters" in report.warning
    assert "8 frames in 2 of 5 clusters" in report.text
    assert ClusterReport.of(np.array([6, 2, 1, 0, 0]), distance_sum=4.0).warning == ""
    with pytest.raises(ValueError, match="no frame"):
        ClusterReport.of(np.zeros(3, np.int64), distance_sum=0.0)
