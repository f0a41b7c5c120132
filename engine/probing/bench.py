"""Measuring the features of an encoder, layer by layer, on labelled recordings. Free of torch.

`Collector` takes the features of one recording after the other and keeps what the measures need: a
vector of each labelled part and pooling, the frames of the parts that ABX compares, a sample of frames
for clusters. Letters: N parts, L frames, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from engine.data.speech.labelled import Labelled, Part, Recording, held_out_units
from engine.probing.abx import AbxItem, abx, sampled
from engine.probing.clusters import agreement, histogram
from engine.probing.linear import Trained, train
from engine.probing.measures import MEASURES, Measure, Task
from engine.probing.pooling import POOLINGS, frames_between, mean_pooled, segment_pooled
from engine.probing.units import Estimate, jackknifed, mean_of

# Frames that clusters are fitted on, and tested on, at most: bounds memory.
FRAMES_A_CLUSTER = 200
_MOST_TEST_FRAMES = 20_000
_MOST_FOLDS = 8
SILENCE = ""

# Fits clusters on (L, D) frames: returns what assigns one of `num_clusters` to each of other frames.
FitClusters = Callable[[np.ndarray], Callable[[np.ndarray], np.ndarray]]


@dataclass(frozen=True, slots=True)
class Grid:
    """Where frames are: frame k is about `first_s + k * frame_s` seconds."""

    frame_s: float
    first_s: float


@dataclass(frozen=True, slots=True)
class Target:
    """A labelled part of a recording, as probes see it."""

    recording: int
    label: str
    speaker: str
    unit: str
    is_test: bool


@dataclass(frozen=True, slots=True)
class LayerScores:
    """The measures of one layer.

    Attributes:
        scores: name of a measure -> its value; measures that can't be taken are absent.
        held_out: accuracy of the word probe on held-out training takes; layers are chosen by it.
    """

    scores: dict[str, Estimate]
    held_out: float


@dataclass(slots=True)
class _Layer:
    pooled: dict[str, list[np.ndarray]] = field(
        default_factory=lambda: {name: [] for name in POOLINGS}
    )
    speaker_pooled: dict[str, list[np.ndarray]] = field(
        default_factory=lambda: {name: [] for name in POOLINGS}
    )
    abx_frames: dict[int, np.ndarray] = field(default_factory=dict)
    train_frames: list[np.ndarray] = field(default_factory=list)
    test_frames: list[np.ndarray] = field(default_factory=list)


class Collector:
    """Takes the features of all recordings in order, then measures each layer."""

    def __init__(
        self,
        labelled: Labelled,
        grid: Grid,
        *,
        fit_clusters: FitClusters | None = None,
        num_clusters: int = 100,
        measures: Sequence[str] = tuple(MEASURES),
        seed: int = 0,
    ) -> None:
        self._labelled = labelled
        self._grid = grid
        self._fit_clusters = fit_clusters
        self._num_clusters = num_clusters
        self._wanted = [MEASURES[name] for name in measures]
        self._seed = seed
        self.targets = targets_of(labelled)
        tested = [place for place, item in enumerate(self.targets) if item.is_test]
        chosen = sampled([_abx_item(self.targets[place]) for place in tested], seed=seed)
        wants_abx = any(item.name.startswith("abx") for item in self._wanted)
        self._abx_places = [tested[k] for k in chosen] if wants_abx else []
        self._by_recording: dict[int, list[int]] = {}
        for place, item in enumerate(self.targets):
            self._by_recording.setdefault(item.recording, []).append(place)
        self._most = {
            "train": FRAMES_A_CLUSTER * num_clusters, "test": _MOST_TEST_FRAMES,
        }  # fmt: skip
        self._layers: list[_Layer] = []
        self._frame_labels: list[tuple[str, np.ndarray]] = []
        self._num_added = 0
        self._keeps = _share_kept(labelled, self._grid.frame_s, most=self._most)

    def add(self, layers: Sequence[np.ndarray]) -> None:
        """Take the features of the next recording: of each layer (L, D)."""
        index = self._num_added
        recording = self._labelled.recordings[index]
        self._num_added += 1
        if not self._layers:
            self._layers = [_Layer() for _ in layers]
        places = self._by_recording.get(index, [])
        slices = [self._slice(part, len(layers[0])) for part in recording.parts]
        draw = np.random.default_rng((self._seed, index))
        picked = self._picked(recording, len(layers[0]), slices=slices, draw=draw)
        abx_places = set(self._abx_places)
        for layer, frames_LD in zip(self._layers, layers, strict=True):
            for place, where in zip(places, slices, strict=True):
                part = frames_LD[where].astype(np.float64)
                layer.pooled["mean"].append(mean_pooled(part))
                layer.pooled["segments"].append(segment_pooled(part))
                if place in abx_places:
                    layer.abx_frames[place] = frames_LD[where].copy()
            whole = frames_LD.astype(np.float64)
            for name, pool in POOLINGS.items():
                layer.speaker_pooled[name].append(pool(whole))
            frames = layer.train_frames if recording.split == "train" else layer.test_frames
            frames.append(frames_LD[picked].astype(np.float32))

    def measure(
        self, layer: int, *, progress: Callable[[str], None] = lambda text: None
    ) -> LayerScores:
        """Return the measures of one layer, counted from 0, once every recording was added."""
        assert self._num_added == len(self._labelled.recordings)
        kept = self._layers[layer]
        scores: dict[str, Estimate] = {}
        held_out = float("nan")
        for item in self._wanted:
            if item.task is None:
                continue
            progress(item.title)
            found = self._probed(kept, item)
            if found is None:
                continue
            scores[item.name], accuracy = found
            if item.task == "word" and not held_out >= accuracy:
                held_out = accuracy
        if self._abx_places:
            progress("ABX")
            scores |= self._abx(kept)
        if self._fit_clusters is not None and any(item.name == "pnmi" for item in self._wanted):
            progress("clusters")
            scores |= self._clusters(kept)
        return LayerScores(scores, held_out)

    @property
    def num_layers(self) -> int:
        """Number of layers of the features that were added."""
        return len(self._layers)

    def _slice(self, part: Part, num_frames: int) -> slice:
        return frames_between(
            num_frames, (part.start_s, part.end_s), frame_s=self._grid.frame_s,
            first_s=self._grid.first_s,
        )  # fmt: skip

    def _picked(
        self,
        recording: Recording,
        count: int,
        *,
        slices: Sequence[slice],
        draw: np.random.Generator,
    ) -> np.ndarray:
        """Choose frames of a recording for clusters, and note their labels."""
        labels_L = np.full(count, SILENCE, dtype=object)
        known_L = np.full(count, recording.has_silence)
        for part, where in zip(recording.parts, slices, strict=True):
            labels_L[where], known_L[where] = part.label, True
        kept_L = known_L & (draw.random(count) < self._keeps[recording.split])
        places = np.flatnonzero(kept_L)
        if recording.split == "test":
            self._frame_labels.append((recording.unit, labels_L[places]))
        return places

    def _probed(self, layer: _Layer, item: Measure) -> tuple[Estimate, float] | None:
        assert item.task is not None
        task = self._task(item.task)
        if task is None:
            return None
        pooled = layer.speaker_pooled if item.task == "speaker" else layer.pooled
        x_ND = np.stack(pooled[item.pooling])
        if item.task == "left_out":
            return left_out_score(x_ND, task), float("nan")
        return score(x_ND, task)

    def _task(self, task: Task) -> TaskData | None:
        data = self._speaker_task if task == "speaker" else self._word_task
        if data is None or (task == "left_out" and len(set(data.speakers)) < 2):
            return None
        return data

    @cached_property
    def _word_task(self) -> TaskData | None:
        return _task_data(self._labelled, [(item, item.label) for item in self.targets])

    @cached_property
    def _speaker_task(self) -> TaskData | None:
        if "" in {item.speaker for item in self._labelled.recordings}:
            return None
        wholes = [
            (Target(k, item.speaker, item.speaker, unit=item.unit, is_test=item.split == "test"), item.speaker)
            for k, item in enumerate(self._labelled.recordings)
        ]  # fmt: skip
        return _task_data(self._labelled, wholes)

    def _abx(self, layer: _Layer) -> dict[str, Estimate]:
        items = [_abx_item(self.targets[place]) for place in self._abx_places]
        errors = abx([layer.abx_frames[place] for place in self._abx_places], items)
        return {
            name: value
            for name, value in (("abx_within", errors.within), ("abx_across", errors.across))
            if value is not None
        }

    def _clusters(self, layer: _Layer) -> dict[str, Estimate]:
        assert self._fit_clusters is not None
        train_LD = np.concatenate(layer.train_frames) if layer.train_frames else np.zeros((0, 1))
        if len(train_LD) < 2 * self._num_clusters or not self._frame_labels:
            return {}
        assign = self._fit_clusters(train_LD)
        names = sorted({str(label) for _, labels in self._frame_labels for label in labels})
        if len(names) < 2:
            return {}
        number = {name: k for k, name in enumerate(names)}
        counts: dict[str, np.ndarray] = {}
        for (unit, labels), frames_LD in zip(self._frame_labels, layer.test_frames, strict=True):
            if not len(labels):
                continue
            found = histogram(
                np.array([number[str(label)] for label in labels]), np.asarray(assign(frames_LD)),
                num_labels=len(names), num_clusters=self._num_clusters,
            )  # fmt: skip
            counts[unit] = counts.get(unit, 0) + found
        return cluster_scores(counts)


@dataclass(frozen=True, slots=True)
class TaskData:
    """What a linear probe is trained and tested on; the order is that of the vectors."""

    labels: tuple[str, ...]
    speakers: tuple[str, ...]
    units: tuple[str, ...]
    is_test_N: np.ndarray
    held_out_N: np.ndarray


def targets_of(labelled: Labelled) -> list[Target]:
    """Return all labelled parts, in order."""
    return [
        Target(index, part.label, item.speaker, unit=item.unit, is_test=item.split == "test")
        for index, item in enumerate(labelled.recordings)
        for part in item.parts
    ]


def score(x_ND: np.ndarray, task: TaskData) -> tuple[Estimate, float]:
    """Return the accuracy on new takes, and that on the held-out part of the training takes."""
    probe = _train(x_ND, task, seen_N=~task.is_test_N)
    correct_N, places = _correct(probe, x_ND, task=task, tested_N=task.is_test_N)
    units = [task.units[place] for place in places]
    return mean_of(correct_N, units), probe.held_out_accuracy


def left_out_score(x_ND: np.ndarray, task: TaskData) -> Estimate:
    """Return the accuracy on test items of speakers of which the probe has not seen a single item.

    Speakers are left out one by one; more than eight of them in eight groups.
    """
    speaker_N = np.array(task.speakers)
    names = sorted(set(task.speakers))
    count = min(len(names), _MOST_FOLDS)
    correct, units = [], []
    for fold in range(count):
        out_N = np.isin(speaker_N, names[fold::count])
        seen_N, tested_N = ~task.is_test_N & ~out_N, task.is_test_N & out_N
        if not tested_N.any() or len({task.labels[k] for k in np.flatnonzero(seen_N)}) < 2:
            continue
        probe = _train(x_ND, task, seen_N=seen_N)
        correct_N, places = _correct(probe, x_ND, task=task, tested_N=tested_N)
        correct.append(correct_N)
        units += [task.units[place] for place in places]
    return mean_of(np.concatenate(correct) if correct else np.zeros(0), units)


def chance(task: TaskData) -> float:
    """Return the accuracy on new takes of always answering with the most frequent training label."""
    labels = np.array(task.labels)
    names, counts = np.unique(labels[~task.is_test_N], return_counts=True)
    return float((labels[task.is_test_N] == names[counts.argmax()]).mean())


def cluster_scores(counts: Mapping[str, np.ndarray]) -> dict[str, Estimate]:
    """Return purity, cluster purity and PNMI of the joint histograms of all units."""
    total = np.sum(list(counts.values()), axis=0)
    whole = agreement(total)
    without = {unit: agreement(total - part) for unit, part in counts.items()}
    return {
        name: jackknifed(
            getattr(whole, name), {unit: getattr(left, name) for unit, left in without.items()}
        )
        for name in ("pnmi", "purity", "cluster_purity")
        if np.isfinite(getattr(whole, name))
    }


def _train(x_ND: np.ndarray, task: TaskData, *, seen_N: np.ndarray) -> Trained:
    places = np.flatnonzero(seen_N)
    held_out_N = task.held_out_N[places]
    if held_out_N.all() or len({task.labels[k] for k in places[~held_out_N]}) < 2:
        held_out_N = np.zeros(len(places), dtype=bool)
    return train(x_ND[places], [task.labels[k] for k in places], held_out_N=held_out_N)


def _correct(
    probe: Trained, x_ND: np.ndarray, *, task: TaskData, tested_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return 1 or 0 for each tested item, and the places of those."""
    places = np.flatnonzero(tested_N)
    answers = probe.predict(x_ND[places])
    right = [answer == task.labels[k] for answer, k in zip(answers, places, strict=True)]
    return np.array(right, dtype=np.float64), places


def _task_data(labelled: Labelled, named: Sequence[tuple[Target, str]]) -> TaskData | None:
    train_labels = {label for item, label in named if not item.is_test}
    if len(train_labels) < 2 or not any(item.is_test for item, _ in named):
        return None
    held = held_out_units([item for item in labelled.recordings if item.split == "train"])
    return TaskData(
        tuple(label for _, label in named),
        tuple(item.speaker for item, _ in named),
        units=tuple(item.unit for item, _ in named),
        is_test_N=np.array([item.is_test for item, _ in named]),
        held_out_N=np.array([not item.is_test and item.unit in held for item, _ in named]),
    )


def _abx_item(target: Target) -> AbxItem:
    return AbxItem(target.label, target.speaker, target.unit)


def _share_kept(labelled: Labelled, frame_s: float, *, most: Mapping[str, int]) -> dict[str, float]:
    """Return the share of frames of each split that clusters use."""
    seconds = {"train": 0.0, "test": 0.0}
    for item in labelled.recordings:
        seconds[item.split] += item.duration_s
    return {
        split: min(1.0, most[split] / max(1.0, total / frame_s)) for split, total in seconds.items()
    }
