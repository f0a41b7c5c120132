"""The targets of masked prediction: the cluster of every frame, by one k-means model for both splits.

A recipe asks `Targets` for its stages, hands it their results, and reads labels. Frame k of an item
starts `k * hop` samples into it, whatever it was clustered by. Letters: N items, L frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.batching.batch import Split
from engine.checkpoints.layout import IMPORTED
from engine.checkpoints.recipe_files import RecipeState
from engine.clustering.kmeans import nearest
from engine.clustering.reservoir import Reservoir
from engine.config.errors import ConfigError, Problem
from engine.config.schema import RunConfig
from engine.config.target_fit import KMEANS_FROM, TARGETS_FROM
from engine.config.targets import TargetSettings
from engine.recipes.base import Opening, Stage
from engine.recipes.self_supervised.kmeans_model import KMeansModel, kmeans_of, read_kmeans
from engine.recipes.self_supervised.target_features import FrameSource, open_source
from engine.recipes.self_supervised.target_stages import (
    AdoptedStage,
    ClusterLabelsStage,
    ClustersStage,
    SampleStage,
)
from engine.recipes.stored_labels.label_files import Items, LabelFiles, Words
from engine.recipes.stored_labels.labels_stage import SPLITS, in_chunks
from models.self_supervised.settings import FrameGrid

_CPU = torch.device("cpu")
_FOLDER = "labels"
# Not that of the run: runs that differ in their seed alone have the same labels, so that their losses mean
# the same and can be compared.
_SEED = 0


class Targets:
    """Makes, stores and reads the labels of a run; can be sent to a reader process.

    Args:
        config: the run; its loss has `TargetSettings`.
        opening: the run's folder, and the checkpoints of runs that it needs.
        items: returns the items of a split, which it opens once.

    Attributes:
        settings: of the loss.
        seed: of sample and clusters; the same in every run.
        reservoir: the sample, while clusters are found.
    """

    def __init__(
        self, config: RunConfig, opening: Opening, *, items: Callable[[Split], Items]
    ) -> None:
        loss: object = config.loss
        assert isinstance(loss, TargetSettings)
        assert isinstance(config.model, FrameGrid)
        self.settings = loss
        self.seed = _SEED
        self.reservoir: Reservoir | None = None
        self._config, self._opening = config, opening
        self._window, self._hop = config.model.receptive_field, config.model.hop
        self._items = items
        self._model: KMeansModel | None = None
        self._files: dict[Split, LabelFiles] = {}
        self._num_samples: dict[Split, np.ndarray] = {}

    def __getstate__(self) -> dict[str, object]:
        """Pickle without the sample."""
        return {**self.__dict__, "reservoir": None}

    def stages(self) -> list[Stage]:
        """Return the stages that make the targets.

        Their steps raise `CheckpointError` and `ConfigError` where a checkpoint that targets are made of is
        missing, damaged, or does not suit this run.
        """
        stages: list[Stage]
        if self.settings.kmeans_from is None:
            stages = [SampleStage(self), ClustersStage(self)]
        else:
            stages = [AdoptedStage(self)]
        if self.settings.labels == "stored":
            stages.append(ClusterLabelsStage(self))
        return stages

    def use(self, stage: str, result: RecipeState) -> None:
        """Take the result of a stage."""
        if stage == ClustersStage.name:
            self._model = KMeansModel.of_result(result)
            self._files.clear()

    @property
    def identity(self) -> str:
        """What labels are equal by: the hash of the k-means model."""
        return self.model.hash

    def items(self, split: Split) -> Items:
        """Return the items of a split."""
        return self._items(split)

    @property
    def model(self) -> KMeansModel:
        """The k-means model; there once the stage `clusters` is complete."""
        assert self._model is not None, "stage clusters comes first"
        return self._model

    @cached_property
    def source(self) -> FrameSource:
        """Where frames come from.

        Raises:
            CheckpointError: when the checkpoint is missing or damaged.
            ConfigError: when it does not suit this run.
        """
        checkpoint: Path | None = None
        if self.settings.targets_from is not None:
            checkpoint = self._needed(TARGETS_FROM, self.settings.targets_from)
        return open_source(
            self._config, checkpoint, layer=self.settings.targets_layer, window=self._window,
            hop=self._hop,
        )  # fmt: skip

    def labels(self, split: Split, index: int, *, first_frame: int, frames: int) -> np.ndarray:
        """Return the labels of some frames of an item, (L,) int64.

        Args:
            split: of the item.
            index: of the item.
            first_frame: where they begin.
            frames: L.

        Raises:
            DataError: when a file can't be read.
            ValueError: when the item has fewer frames.
        """
        if self.settings.labels == "stored":
            files = self.label_files(split)
            return files.read(index, start=first_frame, count=frames)
        label_L: np.ndarray = self._computed(split, index, device=_CPU).numpy()
        if first_frame + frames > len(label_L):
            raise ValueError(
                f"{self.items(split).key(index)} has {len(label_L)} labels, but frames {first_frame} to "
                f"{first_frame + frames} were asked for"
            )
        return label_L[first_frame : first_frame + frames]

    def frames(self, split: Split) -> np.ndarray:
        """Return (N,) int64, the frames of each item."""
        samples_N = self._samples(split)
        frames_N: np.ndarray = np.maximum(0, (samples_N - self._window) // self._hop + 1)
        return frames_N

    def chunks(self, split: Split, items: Iterable[int]) -> list[list[int]]:
        """Return items in runs that take about half a second each."""
        most = self.source.chunk_s * self._config.data.rate_hz
        return in_chunks(items, self._samples(split), most=most)

    def label_files(self, split: Split) -> LabelFiles:
        """Return the stored labels of a split by the current k-means model."""
        if split not in self._files:
            folder = self._opening.folder
            if folder is None:
                raise ValueError("labels are stored in the folder of a run, and there is none here")
            self._files[split] = LabelFiles(
                folder / _FOLDER / self.model.hash / split, items=self.items(split),
                labels_N=self.frames(split), model=self.model.hash,
                values=len(self.model.centroids_KD), words=Words(),
            )  # fmt: skip
        return self._files[split]

    def adopted(self) -> KMeansModel:
        """Return the k-means model of another run.

        Raises:
            CheckpointError: when the checkpoint is missing or damaged.
            ConfigError: when it has no such model, or the model does not suit this run or the weights that
                the run starts from.
        """
        model = read_kmeans(self._needed(KMEANS_FROM, self.settings.kmeans_from))
        clusters = len(model.centroids_KD)
        if clusters != self.settings.clusters:
            message = f"the k-means model has {clusters} clusters; set loss.clusters = {clusters}"
            raise ConfigError([Problem("loss.clusters", message)])
        model = self._of_own_features(model)
        if model.source != self.source.hash:
            raise ConfigError([Problem(TARGETS_FROM, self._misfit(model))])
        other = self.other_than_of_weights(model)
        if other and self._config.init_strict:
            message = (
                f"{self.settings.kmeans_from} has k-means model {model.hash}, but {other}; name one run in "
                "both settings, or set init_strict = false to train its weights on other clusters"
            )
            raise ConfigError([Problem(KMEANS_FROM, message)])
        return model

    def other_than_of_weights(self, model: KMeansModel) -> str:
        """Return which other model the weights that the run starts from belong to; empty where to none.

        Raises:
            CheckpointError: when their checkpoint is missing or damaged.
        """
        start = self._opening.needs.get("init_from")
        theirs = None if start is None else kmeans_of(start)
        if theirs is None or self._of_own_features(theirs).hash == model.hash:
            return ""
        return f"the weights in {start} were trained on k-means model {theirs.hash} ({theirs.source_text})"

    def take_over_labels(self) -> None:
        """Take over labels that lie beside an adopted k-means model; stale ones are told by their marks."""
        checkpoint = self._opening.needs.get(KMEANS_FROM)
        if checkpoint is None:
            return
        theirs = checkpoint.parent.parent / _FOLDER / self.model.hash
        for split in SPLITS:
            self.label_files(split).take_over(theirs / split)

    def labels_are_stored(self) -> None:
        """Free the network that labels were made by."""
        self.source.close()

    def store_labels(self, split: Split, index: int, *, device: torch.device) -> None:
        """Label an item and store that."""
        label_L = self._computed(split, index, device=device)
        self.label_files(split).write(index, label_L.cpu().numpy())

    def _needed(self, key: str, text: str | None) -> Path:
        """Return the checkpoint that a setting leads to; a run that has labels does without."""
        checkpoint = self._opening.needs.get(key)
        if checkpoint is None:
            message = (
                f"the checkpoint of {text} is gone, and labels have to be made with it; restore it and "
                "resume, or enqueue a new run"
            )
            raise ConfigError([Problem(key, message)])
        return checkpoint

    def _samples(self, split: Split) -> np.ndarray:
        if split not in self._num_samples:
            samples_N = self.items(split).durations_s() * self._config.data.rate_hz
            self._num_samples[split] = np.rint(samples_N).astype(np.int64)
        return self._num_samples[split]

    def _computed(self, split: Split, index: int, *, device: torch.device) -> Tensor:
        source, model = self.source, self.model
        if source.hash != model.source:
            raise ConfigError([Problem(TARGETS_FROM, self._misfit(model))])
        feat_LD = source.frames(self.items(split).audio(index), device=device)
        label_L, _ = nearest(feat_LD, model.centroids_KD.to(feat_LD.device))
        return label_L

    def _of_own_features(self, model: KMeansModel) -> KMeansModel:
        """Return a model that nothing is known of but its centroids as one of the features of this run.

        Raises:
            ConfigError: when features have another number of dimensions.
        """
        if model.source != IMPORTED:
            return model
        second_T = np.zeros(self._config.data.rate_hz, np.float32)
        dims, wanted = model.centroids_KD.shape[1], self.source.frames(second_T).shape[1]
        if dims != wanted:
            message = (
                f"the centroids ({model.source_text}) have {dims} dimensions, but {self.source.text} has "
                f"{wanted}; set loss.targets_from and loss.targets_layer to what they were fitted on"
            )
            raise ConfigError([Problem(KMEANS_FROM, message)])
        text = f"{self.source.text}, centroids {model.source_text}"
        return KMeansModel(model.centroids_KD, self.source.hash, source_text=text)

    def _misfit(self, model: KMeansModel) -> str:
        return (
            f"the k-means model was fitted on {model.source_text} (features {model.source}), but this run "
            f"has {self.source.text} (features {self.source.hash}); set loss.targets_from and "
            "loss.targets_layer to what it was fitted on"
        )
