"""Why the features or the k-means model of another run can't give the targets of a run, from configs alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.config.errors import ConfigError
from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.config.targets import TargetSettings
from models.self_supervised.settings import SelfSupervisedConfig

TARGETS_FROM, KMEANS_FROM = "loss.targets_from", "loss.kmeans_from"


def why_targets_do_not_fit(config: RunConfig, trained: Mapping[str, Any], *, key: str) -> str:
    """Return what is wrong with a run as the one that a setting names, as a clause about that run.

    Args:
        config: the run whose targets are made.
        trained: plain values of the config of the other run.
        key: the setting that names it.

    Returns:
        A clause that goes on after the name of the run; empty where nothing is known to be wrong.
    """
    loss: object = config.loss
    if key not in (TARGETS_FROM, KMEANS_FROM) or not isinstance(loss, TargetSettings):
        return ""
    try:
        other = load_config(trained)
    except ConfigError:
        # Of a package that is not installed, or an older program: nobody knows.
        return ""
    if key == KMEANS_FROM:
        return _kmeans(loss, other.loss)
    return _features(config, other, layer=loss.targets_layer)


def _features(config: RunConfig, other: RunConfig, *, layer: int) -> str:
    if not isinstance(other.model, SelfSupervisedConfig):
        return (
            f"trains a model of kind {other.model.kind!r}, whose layers can't be clustered; choose a run of "
            "hubert, wav2vec2 or data2vec2"
        )
    layers = getattr(other.model, "layers", None)
    if layers is not None and layer > layers:
        return f"has {layers} layers, but loss.targets_layer = {layer}; expected 0 to {layers}"
    if other.data.rate_hz != config.data.rate_hz:
        return (
            f"was trained at {other.data.rate_hz} Hz, but data.rate_hz = {config.data.rate_hz}; set it to "
            f"{other.data.rate_hz}"
        )
    hops = [getattr(one.model, "hop", None) for one in (config, other)]
    if None not in hops and hops[0] != hops[1]:
        return (
            f"has a frame every {hops[1]} samples, but this run has one every {hops[0]}; set "
            "model.conv_kernels and model.conv_strides as there"
        )
    return ""


def _kmeans(loss: TargetSettings, other: object) -> str:
    if not isinstance(other, TargetSettings):
        return "has no k-means model; choose a run of hubert"
    if other.clusters != loss.clusters:
        return (
            f"has a k-means model of {other.clusters} clusters, but loss.clusters = {loss.clusters}; set "
            f"it to {other.clusters}"
        )
    return ""
