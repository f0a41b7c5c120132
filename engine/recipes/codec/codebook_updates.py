"""How the codebook of a vector quantiser starts, and how it follows the encoder.

Start: k-means over encoder outputs of training items, drawn by the seed of the run. Afterwards the sums of each
update move it, and codes that fell out of use are revived with noise keyed by (seed, update): nothing depends on
micro-batches or ranks. Letters: N vectors, K codes, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from engine.clustering.kmeans import KMeansFit, nearest
from engine.config.errors import ConfigError, Problem
from engine.gated import assign_unless
from engine.item_random import item_generator
from engine.recipes.base import UpdateMade
from models.codec.codebook import Codebook, moved, revived
from models.codec.settings import MelCodecConfig

# K-means is fitted on so many vectors a code, where the data have them.
VECTORS_PER_CODE = 16
REVIVE_EVERY_UPDATES = 10
_ITERATIONS = 10


def statistics_of(config: MelCodecConfig) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes of the sums of an update that a codebook follows."""
    return {"code_sum": (config.codes, config.code_dim), "code_distance": ()}


def sums_of(
    vectors_ND: Tensor, index_N: Tensor, *, distance_N: Tensor, codes: int
) -> dict[str, Tensor]:
    """Return those sums for a micro-batch."""
    flat_ND = vectors_ND.flatten(0, -2)
    zeros_KD = flat_ND.new_zeros(codes, flat_ND.shape[1])
    return {
        "code_sum": zeros_KD.index_add_(0, index_N.flatten(), flat_ND),
        "code_distance": distance_N.detach().sum(),
    }


@torch.no_grad()
def start_codebook(codebook: Codebook, vectors: Iterator[Tensor], *, seed: int) -> None:
    """Start a codebook at the centroids of vectors, unless it is that of a trained model.

    Args:
        codebook: the codebook.
        vectors: (N, D) at a time; read until there are enough.
        seed: of the run.

    Raises:
        ConfigError: when there are fewer vectors than codes.
    """
    if bool(codebook.started):
        return
    parts: list[Tensor] = []
    wanted = VECTORS_PER_CODE * codebook.num_codes
    while sum(map(len, parts)) < wanted and (part_ND := next(vectors, None)) is not None:
        parts.append(part_ND)
    points_ND = torch.cat(parts)[:wanted]
    if len(points_ND) < codebook.num_codes:
        message = (
            f"{codebook.num_codes}, but the training data have only {len(points_ND)} vectors to start the "
            "codebook from; lower model.codes, or add audio to data.train"
        )
        raise ConfigError([Problem("model.codes", message)])
    fit = KMeansFit(codebook.num_codes, seed=seed, starts=1, short=1, iterations=_ITERATIONS)
    state = fit.start()
    for index in range(fit.num_steps()):
        state = fit.step(index, state, points_FD=points_ND)
    label_N, _ = nearest(points_ND, state["centroids"])
    count_K = torch.bincount(label_N, minlength=codebook.num_codes).float()
    codebook.start_at(state["centroids"], count_K / count_K.sum())


def follow(codebook: Codebook, made: UpdateMade, *, config: MelCodecConfig, seed: int) -> None:
    """Move a codebook by the sums of an update, unless that was skipped."""
    statistics = made.statistics
    count_K, sum_KD = statistics["code_count"], statistics["code_sum"]
    state = moved(codebook.state, count_K, sum_KD=sum_KD, decay=config.codebook_decay)
    if config.revive_below and made.update % REVIVE_EVERY_UPDATES == 0:
        draw = item_generator(seed, made.update, 0, "codebook-revival")
        noise_PD = draw.standard_normal((config.codes // 2, config.code_dim), dtype="float32")
        spread = (statistics["code_distance"] / count_K.sum()).sqrt()
        state = revived(
            state,
            below=config.revive_below,
            noise_PD=torch.from_numpy(noise_PD).to(sum_KD.device),
            spread=spread,
        )
    assign_unless(made.skipped, codebook.state.tensors(), values=state.tensors())
