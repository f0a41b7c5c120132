"""The metrics of self-supervised pre-training, which `engine.metrics.registry` lists with all others.

A training metric and the same of an evaluation are two metrics: the latter is named `val_` and the former.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from engine.metrics.metric import Metric

# What makes the clusters of frames harder or easier to tell, masked or not.
_FRAMES = (
    "loss.clusters", "loss.targets_from", "loss.targets_layer", "loss.kmeans_from",
    "loss.mask_prob", "loss.mask_length", "loss.min_masks",
)  # fmt: skip


def settings_of_labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the settings that decide, beside those of the loss itself, which labels a run has.

    Args:
        config: plain values of a run's config.

    Returns:
        Dotted settings; none for a run without clusters, or with the k-means model of another.
    """
    loss = config.get("loss", {})
    if "kmeans_from" not in loss or loss["kmeans_from"] is not None:
        return ()
    return ("data.train", "loss.frames_per_cluster", "loss.kmeans_starts")


def _of_clusters() -> Iterable[Metric]:
    """Return the metrics of masked prediction: the curves of training, then the same of evaluations."""
    for prefix, of in (("", ""), ("val_", "validation ")):
        common: dict[str, Any] = {"of_training": not prefix, "measured_by": ("hubert",)}
        for kind in ("masked", "unmasked"):
            yield Metric(
                f"{prefix}{kind}_loss", f"{of}loss of {kind} frames", unit="nats", rises=False,
                family="loss", same=_FRAMES, reference=f"{prefix}label_entropy", **common,
            )  # fmt: skip
            yield Metric(
                f"{prefix}{kind}_accuracy", f"{of}accuracy of {kind} frames", unit="%", scale=100,
                is_main=f"{prefix}{kind}" == "val_masked", worst=0.0, same=_FRAMES, **common,
            )  # fmt: skip
        common["of_input"] = bool(prefix)
        yield Metric(
            f"{prefix}masked_share", f"{of}share of masked frames", unit="%", scale=100, **common
        )
        yield Metric(
            f"{prefix}mask_run", f"{of}mean length of a masked run", unit="frames", **common
        )
        yield Metric(f"{prefix}label_entropy", f"{of}entropy of the labels", unit="nats", **common)
        yield Metric(f"{prefix}clusters_used", f"{of}clusters in use", **common)


def _of_both() -> Iterable[Metric]:
    """Return what several recipes measure."""
    for prefix, of in (("", ""), ("val_", "validation ")):
        yield Metric(
            f"{prefix}penalty", f"{of}feature penalty", rises=False, family="loss",
            of_training=not prefix, measured_by=("hubert", "wav2vec2"), same=("loss.penalty",),
        )  # fmt: skip


METRICS = (*_of_clusters(), *_of_both())
