"""The stages that make targets: a sample of frames, its clusters, the labels of all items.

Frames never reach the disk: the sample stays in memory, and is read again after a stop, if clusters are
still to be found. Letters: F frames of the sample, K clusters, D numbers of a frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

import numpy as np
import torch

from engine.batching.batch import Split
from engine.checkpoints.recipe_files import RecipeState
from engine.clustering.kmeans import KMeansFit, nearest
from engine.clustering.report import ClusterReport
from engine.clustering.reservoir import Reservoir
from engine.config.errors import ConfigError, DataError, Problem, counted
from engine.config.targets import TargetSettings
from engine.recipes.base import Stage
from engine.recipes.self_supervised.kmeans_model import KMeansModel
from engine.recipes.self_supervised.target_features import FrameSource
from engine.recipes.stored_labels.labels_stage import LabelsStage, MakesLabels

Notices = list[tuple[Literal["info", "warning"], str]]


class Targets(MakesLabels, Protocol):
    """What the stages work on: `engine.recipes.self_supervised.targets.Targets`."""

    settings: TargetSettings
    seed: int
    reservoir: Reservoir | None

    @property
    def source(self) -> FrameSource:
        """Return where frames come from."""

    @property
    def model(self) -> KMeansModel:
        """Return the k-means model."""

    def adopted(self) -> KMeansModel:
        """Return the k-means model of another run, checked to suit this one."""

    def other_than_of_weights(self, model: KMeansModel) -> str:
        """Return which other model the weights that the run starts from belong to."""

    def frames(self, split: Split) -> np.ndarray:
        """Return (N,) frames of each item."""


class SampleStage(Stage):
    """Reads the frames that k-means is fitted on."""

    name = "reservoir"
    feeds = "clusters"

    def __init__(self, targets: Targets) -> None:
        self._targets = targets
        self._chunks: list[list[int]] = []

    def num_steps(self) -> int:
        """Draw the sample, and return in how many steps it is read."""
        targets = self._targets
        settings = targets.settings
        frames_N = targets.frames("train")
        wanted = settings.frames_per_cluster * settings.clusters
        total = int(frames_N.sum())
        if settings.clusters > total:
            message = (
                f"{settings.clusters}, but the training data have {counted(total, 'frame')}; lower "
                "loss.clusters, or add audio to data.train"
            )
            raise ConfigError([Problem("loss.clusters", message)])
        targets.reservoir = Reservoir(frames_N, capacity=wanted, seed=targets.seed)
        self._chunks = targets.chunks("train", targets.reservoir.items)
        return len(self._chunks)

    def start(self) -> RecipeState:
        """Nothing was heard yet."""
        return RecipeState({}, {"sounds": False})

    def step(self, index: int, state: RecipeState, *, device: torch.device) -> RecipeState:
        """Read some of the items."""
        targets = self._targets
        assert targets.reservoir is not None
        for item in self._chunks[index]:
            wave_T = targets.items("train").audio(item)
            state.values["sounds"] |= bool(len(wave_T)) and bool(np.ptp(wave_T) > 0)
            targets.reservoir.put(item, targets.source.frames(wave_T, device=device))
        return state

    def finish(self, state: RecipeState) -> RecipeState:
        """Refuse silence."""
        if not state.values["sounds"]:
            message = (
                "the sampled items are all digital silence, so there is nothing to cluster; replace the "
                "files (`sepdash data check` lists silent ones)"
            )
            raise DataError([Problem("data.train", message)])
        return state


class ClustersStage(Stage):
    """Fits k-means on the sample; its result is the k-means model."""

    name = "clusters"

    def __init__(self, targets: Targets) -> None:
        self._targets = targets
        settings = targets.settings
        self._fit = KMeansFit(settings.clusters, seed=targets.seed, starts=settings.kmeans_starts)

    def num_steps(self) -> int:
        """Return the number of steps of the fit."""
        return self._fit.num_steps()

    def start(self) -> RecipeState:
        """Return the state before the first step."""
        return RecipeState(self._fit.start())

    def step(self, index: int, state: RecipeState, *, device: torch.device) -> RecipeState:
        """Sow centroids, or iterate once."""
        assert self._targets.reservoir is not None
        points_FD = self._targets.reservoir.points()
        tensors = {
            name: tensor.to(points_FD.device) if tensor.dim() else tensor.cpu()
            for name, tensor in state.tensors.items()
        }
        return RecipeState(self._fit.step(index, tensors, points_FD=points_FD))

    def finish(self, state: RecipeState) -> RecipeState:
        """Return centroids, what they are of, and how the sample falls into them."""
        targets = self._targets
        assert targets.reservoir is not None
        points_FD = targets.reservoir.points()
        centroids_KD = state.tensors["centroids"].to(points_FD.device)
        label_F, distance_F = nearest(points_FD, centroids_KD)
        count_K = torch.bincount(label_F, minlength=len(centroids_KD)).cpu().numpy()
        report = ClusterReport.of(count_K, distance_sum=float(distance_F.double().sum()))
        targets.reservoir = None
        model = KMeansModel(
            centroids_KD.cpu(), source=targets.source.hash, source_text=targets.source.text
        )
        return model.to_result(report=report.to_dict())

    def notices(self, result: RecipeState) -> Notices:
        """Return the report of the sample, and whether the run starts from weights of other clusters."""
        targets = self._targets
        notices = _report_notices("k-means of", targets.source.text, result=result)
        if other := targets.other_than_of_weights(KMeansModel.of_result(result)):
            notices.append(
                (
                    "warning",
                    f"new clusters were fitted, but {other}; its predictions of labels mean nothing here. To "
                    "go on with its clusters, set loss.kmeans_from to the same run",
                )
            )
        return notices


class AdoptedStage(Stage):
    """Takes the k-means model of another run."""

    name = "clusters"

    def __init__(self, targets: Targets) -> None:
        self._targets = targets

    def num_steps(self) -> int:
        """Nothing is computed."""
        return 0

    def finish(self, state: RecipeState) -> RecipeState:
        """Return the model."""
        return self._targets.adopted().to_result(adopted=True)

    def notices(self, result: RecipeState) -> Notices:
        """Say which model it is."""
        model = f"{result.values['hash']} ({result.values['source_text']})"
        return [("info", f"k-means model {model} is used again")]


class ClusterLabelsStage(LabelsStage):
    """Labels every item of both splits by one k-means model, and stores the labels."""

    def __init__(self, targets: Targets) -> None:
        super().__init__(targets)
        self._targets = targets

    def result(self, counts: Mapping[Split, np.ndarray]) -> RecipeState:
        """Return the model, how training frames fall into clusters, and the numbers of frames."""
        report = ClusterReport.of(counts["train"])
        frames = {split: int(count_K.sum()) for split, count_K in counts.items()}
        model = self._targets.model.hash
        return RecipeState({}, {"kmeans": model, "report": report.to_dict(), "frames": frames})

    def notices(self, result: RecipeState) -> Notices:
        """Return how training frames fall into clusters."""
        return _report_notices("labels of", "data.train", result=result)


def _report_notices(what: str, of: str, *, result: RecipeState) -> Notices:
    report = ClusterReport(**result.values["report"])
    notices: Notices = [("info", f"{what} {of}: {report.text}")]
    if report.warning:
        notices.append(("warning", f"{what} {of}: {report.warning}"))
    return notices
