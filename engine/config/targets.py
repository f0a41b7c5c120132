"""Settings of the targets of masked prediction: which features are clustered, and how. Free of torch."""

from __future__ import annotations

from typing import Literal

from models.base.settings import Section, run_reference, setting

# Labels are 16-bit numbers, of which the highest means "none".
MOST_CLUSTERS = 65_535
# 13 coefficients with first and second differences (`engine.audio.mfcc`).
MFCC_DIM = 39


class TargetSettings(Section):
    """K-means clusters of MFCCs, or of a layer of an earlier run, as the labels of frames."""

    clusters: int = setting(
        100,
        "Number of clusters: 100 for MFCCs, 500 for a layer, in the paper.",
        ge=2,
        le=MOST_CLUSTERS,
    )
    targets_from: str | None = run_reference(
        None,
        "Cluster a layer of this earlier run (NAME, NAME@last, or a folder) instead of MFCCs.",
        only_at_start=True,
    )
    targets_layer: int = setting(
        6,
        "Layer of targets_from whose output is clustered; 0 is the input of the first layer.",
        ge=0,
        le=96,
    )
    kmeans_from: str | None = run_reference(
        None,
        "Use the k-means model of this run, of a folder that `sepdash cluster` wrote, or the centroids in "
        "a .npy file (clusters x dimensions), instead of fitting one: for further pre-training, together "
        "with init_from.",
        only_at_start=True,
        file=".npy",
    )
    frames_per_cluster: int = setting(
        300,
        "Frames that k-means is fitted on, for each cluster; they are held in memory.",
        ge=10,
        le=10_000,
    )
    kmeans_starts: int = setting(
        5, "Number of times that k-means++ is started; the best start is continued.", ge=1, le=100
    )
    iterations: int = setting(
        1,
        "Train so many times in a row, each run on clusters of a layer of the run before; queued as runs "
        "of their own.",
        ge=1,
        le=10,
    )
    later: tuple[str, ...] = setting(
        (),
        'Settings of later iterations, each as "ITERATION: KEY=VALUE": "2: loss.clusters=500". '
        "targets_layer is that of the iteration before; what no line sets is as in the first iteration.",
        max_length=100,
    )
    labels: Literal["stored", "computed"] = setting(
        "stored",
        "Labels of frames: stored before training (2 bytes a frame, in the run's folder), or computed "
        "whenever an item is read.",
    )
