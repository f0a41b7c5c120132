"""An encoder on labelled recordings: reads them, takes features of all layers, and measures those.

Also the headline of self-supervised recipes: a probe that is cheap enough for every evaluation
(`data.probe`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import nn

from engine.config.schema import RunConfig
from engine.data.files.audio_files import AudioInfo
from engine.data.files.rates import check_rates, resampled_length
from engine.data.files.resampling import read_resampled
from engine.data.speech.labelled import Labelled, Recording, limited, read_labelled
from engine.evaluation.result import Evaluation
from engine.metrics.items_keys import with_own
from engine.metrics.registry import PROBE
from engine.probing.bench import Collector, Grid, LayerScores
from engine.probing.kmeans import fitter
from engine.probing.measures import MEASURES
from engine.recipes.self_supervised.encoders import FeatureEncoder, network_encoder

# Recordings that are read and encoded together.
_AT_ONCE = 32
# What an evaluation can afford: seconds on a CPU with a small network.
_CHEAP_TRAIN, _CHEAP_TEST = 400, 200
_CHEAP_LAYERS = 4
# Audio that is kept in memory between evaluations, in seconds.
_MOST_KEPT_S = 900.0


@dataclass(frozen=True, slots=True)
class Step:
    """How far work is: what is done, how many are done, of how many."""

    what: str
    done: int
    total: int


Progress = Callable[[Step], None]


@dataclass(frozen=True, slots=True)
class Options:
    """How an encoder is probed.

    Attributes:
        layers: those to measure, 0 for the input of layer 1; empty: all.
        clusters: of the k-means for purity and PNMI.
        seed: of clusters and samples.
        measures: names in `engine.probing.measures`.
    """

    layers: tuple[int, ...] = ()
    clusters: int = 100
    seed: int = 0
    measures: tuple[str, ...] = tuple(MEASURES)


def probe_encoder(
    encoder: FeatureEncoder,
    labelled: Labelled,
    *,
    options: Options,
    progress: Progress,
    read: Callable[[Recording, int], np.ndarray] | None = None,
) -> dict[int, LayerScores]:
    """Measure the features of an encoder.

    Args:
        encoder: what gives the features.
        labelled: what they are judged on.
        options: what is measured.
        progress: called as work goes on.
        read: reads a recording at a rate, (T,); None: `read_wave`.

    Returns:
        Number of a layer -> its measures.

    Raises:
        DataError: when a recording can't be read, or its rate not converted.
        ValueError: for a layer that the encoder does not have.
    """
    read = read or read_wave
    layers = options.layers or tuple(range(encoder.num_layers + 1))
    if wrong := [layer for layer in layers if not 0 <= layer <= encoder.num_layers]:
        raise ValueError(
            f"{encoder.name} has no layer {wrong[0]}; expected 0 to {encoder.num_layers} (0: the input of "
            "layer 1)"
        )
    grid = Grid(encoder.hop / encoder.rate_hz, encoder.window / 2 / encoder.rate_hz)
    wants_clusters = bool({"pnmi", "purity", "cluster_purity"} & set(options.measures))
    collector = Collector(
        labelled, grid, num_clusters=options.clusters, measures=options.measures, seed=options.seed,
        fit_clusters=fitter(options.clusters, seed=options.seed) if wants_clusters else None,
    )  # fmt: skip
    total = len(labelled.recordings)
    done = 0
    for recordings in _chunks(labelled.recordings):
        found = encoder.features([read(item, encoder.rate_hz) for item in recordings])
        for row in range(len(recordings)):
            collector.add([found[layer][row] for layer in layers])
        done += len(recordings)
        progress(Step("features", done, total=total))
    scores = {}
    # Products this small cost eight times as much on two threads that wait for each other on a busy machine.
    with threadpool_limits(limits=1, user_api="blas"):
        for number, layer in enumerate(layers):
            scores[layer] = collector.measure(number)
            progress(Step("probes", number + 1, total=len(layers)))
    return scores


def read_wave(recording: Recording, rate_hz: int) -> np.ndarray:
    """Read a recording at a rate, all channels averaged: float32 (T,).

    Raises:
        DataError: when it can't be read, or its rate not converted.
    """
    info = recording.info
    check_rates(info.rate_hz, rate_hz, setting=str(info.path))
    length = resampled_length(info.frames, info.rate_hz, to_hz=rate_hz)
    start = min(round(recording.start_s * rate_hz), length - 1)
    end = min(round((recording.start_s + recording.duration_s) * rate_hz), length)
    frames = max(1, end - start)
    wave_T: np.ndarray = read_resampled(info, start, frames=frames, rate_hz=rate_hz).mean(axis=0)
    return wave_T


def read_whole(info: AudioInfo, rate_hz: int) -> np.ndarray:
    """Read a file at a rate, all channels averaged: float32 (T,).

    Raises:
        DataError: when it can't be read, or its rate not converted.
    """
    whole = Recording(info, 0.0, info.duration_s, speaker="", unit="", split="test")
    return read_wave(whole, rate_hz)


class ProbeScore:
    """The headline of a self-supervised run: word accuracy of frozen features, in every evaluation.

    A fixed sample of `data.probe` is used; the layer is chosen on held-out training takes. Words are
    those of speakers left out of the probe where there are several speakers, else those of new takes.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._waves: dict[Recording, np.ndarray] = {}

    def __getstate__(self) -> dict[str, object]:
        """Pickle for a reader process, which probes nothing: without what was read."""
        return {"_config": self._config, "_waves": {}}

    @cached_property
    def _labelled(self) -> Labelled | None:
        """What is probed with; read when it is first needed, since a trained model does without."""
        path = getattr(self._config.data, "probe", None)
        if path is None:
            return None
        found = read_labelled(Path(path), setting="data.probe")
        return limited(found, {"train": _CHEAP_TRAIN, "test": _CHEAP_TEST})

    def added(
        self, evaluation: Evaluation, model: nn.Module, *, device: torch.device
    ) -> Evaluation:
        """Return an evaluation with the probe's score; unchanged without `data.probe`.

        Raises:
            DataError: when nothing can be probed with it any more.
        """
        if self._labelled is None:
            return evaluation
        encoder = network_encoder(model, self._config, device=device)
        word = "left_out_segments" if len(self._labelled.speakers) > 1 else "word_segments"
        options = Options(
            spread_layers(encoder.num_layers), measures=tuple({"word_segments", word})
        )
        scores = probe_encoder(
            encoder, self._labelled, options=options, progress=lambda step: None, read=self._read
        )
        found = scores[chosen_layer(scores)].scores.get(word)
        if found is None:
            return evaluation
        units = sorted(found.units)
        key = sha256("\n".join(units).encode("utf-8", "surrogateescape")).hexdigest()[:16]
        values_U = np.array([found.units[unit] for unit in units])
        return replace(
            evaluation,
            metrics={**evaluation.metrics, PROBE: found.value},
            items={**evaluation.items, PROBE: values_U},
            items_key=with_own(evaluation.items_key, PROBE, own=key),
        )

    def _read(self, recording: Recording, rate_hz: int) -> np.ndarray:
        """Read a recording, and keep it as long as there is room."""
        if recording not in self._waves:
            wave_T = read_wave(recording, rate_hz)
            if sum(map(len, self._waves.values())) + len(wave_T) > _MOST_KEPT_S * rate_hz:
                return wave_T
            self._waves[recording] = wave_T
        return self._waves[recording]


def spread_layers(num_layers: int) -> tuple[int, ...]:
    """Return at most four layers, spread evenly, the last one among them."""
    count = min(_CHEAP_LAYERS, num_layers)
    return tuple(round((k + 1) * num_layers / count) for k in range(count))


def chosen_layer(scores: dict[int, LayerScores]) -> int:
    """Return the layer with the best word probe on held-out training takes; the last one without any."""
    known = {layer: of.held_out for layer, of in scores.items() if np.isfinite(of.held_out)}
    return max(known, key=lambda layer: known[layer]) if known else max(scores)


def _chunks(items: Sequence[Recording]) -> Iterator[Sequence[Recording]]:
    for first in range(0, len(items), _AT_ONCE):
        yield items[first : first + _AT_ONCE]
