"""A k-means model as runs keep it: centroids, and the features that they are centroids of.

It is the result of a stage, so it travels in every checkpoint of its run, and is found there by runs
that go on with it. Letters: K clusters, D numbers of a frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.checkpoints.files import read_manifest
from engine.checkpoints.find import find_checkpoint
from engine.checkpoints.layout import IMPORTED
from engine.checkpoints.recipe_files import RecipeState, read_recipe_parts
from engine.clustering.centroid_files import CentroidsError, read_centroids
from engine.config.errors import ConfigError, Problem
from engine.config.target_fit import KMEANS_FROM

STAGE = "clusters"
# As `engine.training.stages` saves a stage by itself.
_TENSORS = "stage.safetensors"


@dataclass(frozen=True, slots=True)
class KMeansModel:
    """Centroids (K, D) float32, the hash of the features, and what these are for people."""

    centroids_KD: Tensor
    source: str
    source_text: str

    @property
    def hash(self) -> str:
        """Sixteen hex digits over centroids and features: equal ones give equal labels."""
        digest = sha256(self.centroids_KD.contiguous().numpy().tobytes())
        digest.update(self.source.encode())
        return digest.hexdigest()[:16]

    def to_result(self, **values: Any) -> RecipeState:
        """Return it as the result of a stage."""
        about = {"hash": self.hash, "source": self.source, "source_text": self.source_text}
        return RecipeState({"centroids": self.centroids_KD}, {**about, **values})

    @classmethod
    def of_result(cls, result: RecipeState) -> KMeansModel:
        """Return the model that a stage has as its result.

        Raises:
            ValueError: when it is not the model that was saved.
        """
        values = result.values
        model = cls(
            result.tensors["centroids"], values["source"], source_text=values["source_text"]
        )
        if model.hash != values["hash"]:
            raise ValueError(
                f"the k-means model has hash {model.hash}, but was saved with {values['hash']}: the "
                "checkpoint is damaged; go back to an earlier one"
            )
        return model


def imported_kmeans(centroids_KD: np.ndarray, path: Path) -> KMeansModel:
    """Return a model of centroids (K, D) float32 alone: which features they are of, nobody has written down."""
    return KMeansModel(
        torch.from_numpy(centroids_KD), IMPORTED, source_text=f"imported from {path}"
    )


def read_kmeans(path: Path) -> KMeansModel:
    """Return the k-means model of a checkpoint, of a folder that a stage was saved in, or of a `.npy` file.

    Raises:
        CheckpointError: when there is no checkpoint, or it is damaged.
        ConfigError: when it has no k-means model, or the file can't be used.
    """
    if path.is_file():
        try:
            return imported_kmeans(read_centroids(path), path)
        except CentroidsError as error:
            raise ConfigError([Problem(KMEANS_FROM, str(error))]) from None
    manifest = read_manifest(find_checkpoint(path))
    if manifest.values.get("stage") == STAGE and manifest.values.get("complete"):
        return KMeansModel.of_result(RecipeState(manifest.tensors(_TENSORS), manifest.state()))
    result = read_recipe_parts(manifest).stages.get(STAGE)
    if result is None:
        message = (
            f"{manifest.folder} has no k-means model; name a run of the recipe hubert, or a folder that "
            "`sepdash cluster` wrote"
        )
        raise ConfigError([Problem(KMEANS_FROM, message)])
    return KMeansModel.of_result(result)


def kmeans_of(checkpoint: Path) -> KMeansModel | None:
    """Return the k-means model that travels in a checkpoint; None where there is none.

    Raises:
        CheckpointError: when there is no checkpoint, or it is damaged.
    """
    result = read_recipe_parts(read_manifest(checkpoint)).stages.get(STAGE)
    return None if result is None else KMeansModel.of_result(result)
