"""wav2vec 2.0 (Baevski et al., 2020): masked frames are told by their codes from others of the same item.

Everything that is drawn for an item is a function of (seed, epoch, item), the noise of its codes included,
so neither losses nor gradients depend on how an update is split, and the mean code is that of the whole
update: `look` runs the convolutions and the quantiser once more for that, of all micro-batches but one, which
`begin` begins. Letters: B batch, N validation
items, L frames, M masked frames of the row that has most, G groups and V entries of the codebooks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor, nn

from engine.batching.batch import Batch, Split
from engine.batching.items import ItemDraw, MicroBatch
from engine.config.schema import RunConfig
from engine.config.self_supervised import Wav2Vec2Loss
from engine.evaluation.result import Evaluation, evaluation_of
from engine.item_random import draws_seed
from engine.recipes.base import CurvePoints, Finding, Opening, StepContext, StepOutput
from engine.recipes.code_use import diversity, hard_sum, perplexity, soft_sum
from engine.recipes.self_supervised.gumbel import gumbel_noise, gumbel_temperature
from engine.recipes.self_supervised.layer_drop import kept_layers
from engine.recipes.self_supervised.recipe import PretrainingRecipe
from engine.recipes.self_supervised.wav2vec2_draws import counts_of, masked_of, with_draws
from engine.recipes.self_supervised.wav2vec2_terms import Terms, terms_of
from engine.recipes.self_supervised.wav2vec2_watch import LASTS_UPDATES, findings
from engine.recipes.whole_update import Finish, counted_in_part, with_own_gradient
from models.self_supervised.settings import EncoderSettings
from models.self_supervised.wav2vec2 import Sampling, Wav2Vec2
from models.self_supervised.wav2vec2_settings import Wav2Vec2Head


def open_wav2vec2(config: RunConfig, *, opening: Opening) -> Wav2Vec2Recipe:
    """Open the recipe; it needs no other run."""
    return Wav2Vec2Recipe(config)


class Wav2Vec2Recipe(PretrainingRecipe):
    """Trains a `models.self_supervised.wav2vec2.Wav2Vec2`."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        assert isinstance(config.model, Wav2Vec2Head)
        assert isinstance(config.model, EncoderSettings)
        assert isinstance(config.loss, Wav2Vec2Loss)
        self._head, self._encoder = config.model, config.model
        self._loss = config.loss
        self._groups = range(1, config.model.code_groups + 1)

    @property
    def training_metrics(self) -> Mapping[str, str]:
        """Return the curves of training beside the loss."""
        groups = [f"code_perplexity_{group}" for group in self._groups]
        return {
            "contrastive_loss": "nats", "diversity_loss": "", "penalty": "",
            "contrastive_accuracy": "", "code_perplexity": "", **dict.fromkeys(groups, ""),
            "temperature": "",
        }  # fmt: skip

    @property
    def ahead_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return what the losses need of the whole update: codes of masked frames, and two counts."""
        codes = (self._head.code_groups, self._head.code_entries)
        return {"soft": codes, "hard": codes, "masked": (), "frames": ()}

    def build_model(self) -> Wav2Vec2:
        """Return the freshly initialised network, on the CPU."""
        return Wav2Vec2(self._head)

    def fetch(self, split: Split, micro_batch: MicroBatch) -> Batch:
        """Read waveforms (`read_waveforms`) with masks, distractors and noise (`with_draws`)."""
        seed = draws_seed(self._config.seed, split)
        return self._with_draws(self._read(split, micro_batch), micro_batch.draws, seed=seed)

    def worst_batch(self, count: int, shape: tuple[float, ...] = ()) -> Batch:
        """Return `count` items of noise of `shape` (seconds,), or of the longest training item."""
        draws = tuple(ItemDraw(0, index) for index in range(count))
        return self._with_draws(self._noise(count, shape), draws, seed=self._config.seed)

    def look(self, model: nn.Module, batch: Batch, *, context: StepContext) -> dict[str, Tensor]:
        """Return the sums of codes and frames; runs the convolutions and the quantiser only."""
        assert isinstance(model, Wav2Vec2)
        logits_BMGV = model.code_logits(
            batch.tensors["wave"], self._lengths(batch), masked=masked_of(batch)
        )
        return _sums_of(logits_BMGV, batch)

    def begin(
        self, model: nn.Module, batch: Batch, *, context: StepContext
    ) -> tuple[Mapping[str, Tensor], Finish]:
        """Return the sums of `look`, and what goes on to what `step` returns."""
        assert isinstance(model, Wav2Vec2)
        temperature = self._temperature(context)
        masked = masked_of(batch)
        begun = model.begin(
            batch.tensors["wave"], self._lengths(batch), masked=masked,
            sampling=self._sampling(batch, temperature),
        )  # fmt: skip

        def finish(context: StepContext) -> StepOutput:
            output = model.finish(begun, masked, keep_layers=self._kept_layers(context))
            terms = terms_of(output, batch, loss=self._loss)
            return self._output(terms, context.ahead, temperature=temperature)

        return _sums_of(begun.quantised.logits_NGV.detach(), batch), finish

    def step(self, model: nn.Module, batch: Batch, *, context: StepContext) -> StepOutput:
        """Return the loss times the masked frames of the batch, and how many these are.

        Diversity is that of the codes of the whole update, and the penalty the mean over all its frames;
        both weigh as much as the masked frames of the update together.
        """
        assert isinstance(model, Wav2Vec2)
        temperature = self._temperature(context)
        terms = self._terms(model, batch, temperature=temperature, keep=self._kept_layers(context))
        return self._output(terms, context.ahead or _as_ahead(terms), temperature=temperature)

    def _output(
        self, terms: Terms, ahead: Mapping[str, Tensor], *, temperature: float
    ) -> StepOutput:
        """Return what a step comes to, given the sums of the whole update."""
        loss = self._loss
        masked, frames = terms.masked_B.sum(), terms.frames_B.sum()
        penalty = terms.penalty_B.sum()
        spread = diversity(with_own_gradient(ahead["soft"], terms.soft_GV))
        share = masked / ahead["masked"]
        loss_sum = (
            terms.objective_B.sum()
            + loss.diversity_weight * ahead["masked"] * counted_in_part(spread, share)
            + loss.penalty * ahead["masked"] / ahead["frames"] * penalty
        )
        metrics = {
            "contrastive_loss": (terms.contrastive_B.sum(), masked),
            "diversity_loss": (spread * masked, masked),
            "penalty": (penalty, frames),
            "contrastive_accuracy": (terms.right_B.sum(), masked),
            "temperature": (temperature * masked, masked),
        }
        for name, value in self._perplexities(ahead["hard"]).items():
            metrics[name] = (value * masked, masked)
        return StepOutput(loss_sum, masked, metrics=metrics)

    @property
    def watch_updates(self) -> int:
        """Return how long a condition has to last to be reported."""
        return LASTS_UPDATES

    def watch(self, points: CurvePoints) -> Sequence[Finding]:
        """Return whether codes have collapsed, or the loss stays at chance."""
        return findings(
            points,
            groups=self._head.code_groups,
            entries=self._head.code_entries,
            distractors=self._loss.distractors,
        )

    def evaluate_loss(self, model: nn.Module, device: torch.device) -> Evaluation:
        """Evaluate the losses, accuracy and perplexities with the most likely codes.

        Sums run over all items, so perplexities and diversity are those of the whole validation set. The
        value of an item is its sum over the mean count, so that the mean over items is the mean over frames.
        """
        assert isinstance(model, Wav2Vec2)
        sums_N: dict[str, np.ndarray] = {}
        codes: dict[str, Tensor] = {}
        for micro_batch in self._valid_batches:
            terms = self._terms(model, self.fetch("valid", micro_batch).to(device))
            rows = [draw.index for draw in micro_batch.draws]
            for name in (
                "contrastive_B",
                "objective_B",
                "right_B",
                "masked_B",
                "penalty_B",
                "frames_B",
            ):
                value_N = sums_N.setdefault(name, np.zeros(self._num_valid))
                value_N[rows] = getattr(terms, name).double().cpu().numpy()
            for name in ("soft_GV", "hard_GV"):
                codes[name] = codes.get(name, 0) + getattr(terms, name).double()
        return self._evaluation(sums_N, codes)

    def _evaluation(
        self, sums_N: Mapping[str, np.ndarray], codes: Mapping[str, Tensor]
    ) -> Evaluation:
        masked = max(1.0, float(sums_N["masked_B"].mean()))
        contrastive_N = sums_N["contrastive_B"] / masked
        penalty_N = sums_N["penalty_B"] / max(1.0, float(sums_N["frames_B"].mean()))
        spread = float(diversity(codes["soft_GV"]))
        constant = self._loss.diversity_weight * spread
        found = evaluation_of(
            {
                "val_loss": sums_N["objective_B"] / masked
                + self._loss.penalty * penalty_N
                + constant,
                "val_contrastive_loss": contrastive_N,
                "val_penalty": penalty_N,
                "val_contrastive_accuracy": sums_N["right_B"] / masked,
            },
            items_key=self._items_key,
        )
        of_all = {
            f"val_{name}": float(value)
            for name, value in self._perplexities(codes["hard_GV"]).items()
        }
        return replace(
            found, metrics=found.metrics | {"val_diversity_loss": spread} | of_all, num_excluded=0
        )

    def _terms(
        self,
        model: Wav2Vec2,
        batch: Batch,
        *,
        temperature: float | None = None,
        keep: list[bool] | None = None,
    ) -> Terms:
        """Run the network; without a temperature, codes are the most likely ones."""
        output = model(
            batch.tensors["wave"],
            self._lengths(batch),
            masked=masked_of(batch),
            sampling=None if temperature is None else self._sampling(batch, temperature),
            keep_layers=keep,
        )
        return terms_of(output, batch, loss=self._loss)

    def _temperature(self, context: StepContext) -> float:
        return gumbel_temperature(self._loss, context.counters, length=self._config.schedule.length)

    def _kept_layers(self, context: StepContext) -> list[bool] | None:
        return kept_layers(self._config.seed, context.update, model=self._encoder)

    def _sampling(self, batch: Batch, temperature: float) -> Sampling:
        head, places = self._head, batch.tensors["place"].shape[1]
        shape = (places, head.code_groups, head.code_entries)
        return Sampling(temperature, gumbel_noise(batch.tensors["noise"], shape))

    def _perplexities(self, hard_GV: Tensor) -> dict[str, Tensor]:
        """Return the sum over the groups, and each group's own where there are several."""
        each_G = perplexity(hard_GV)
        groups = {f"code_perplexity_{n}": each_G[n - 1] for n in self._groups}
        return {"code_perplexity": each_G.sum(), **groups}

    def _with_draws(self, batch: Batch, draws: Sequence[ItemDraw], *, seed: int) -> Batch:
        return with_draws(
            batch, draws, frames_of=self._encoder.frames_of, loss=self._loss, seed=seed
        )

    def _lengths(self, batch: Batch) -> Tensor | None:
        """Return the length of each item; None where none is padded."""
        return batch.tensors["length"] if self._data.fit == "pad" else None

    @cached_property
    def _items_key(self) -> str:
        """Sixteen hex digits that identify the validation items and what is drawn for them."""
        loss = self._loss
        how = [loss.mask_prob, loss.mask_length, loss.min_masks, loss.distractors]
        about = json.dumps([self.manifest("valid"), how, self._num_valid, self._data.rate_hz])
        return sha256(about.encode()).hexdigest()[:16]


def _sums_of(logits_BMGV: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Return the sums of codes and frames."""
    weight_BM = counts_of(batch).to(logits_BMGV.dtype)
    return {
        "soft": soft_sum(logits_BMGV, weight_BM),
        "hard": hard_sum(logits_BMGV, weight_BM),
        "masked": weight_BM.sum(),
        "frames": batch.tensors["frames"].sum(),
    }


def _as_ahead(terms: Terms) -> dict[str, Tensor]:
    """Return what `look` would of a batch that is the whole update."""
    return {
        "soft": terms.soft_GV.detach(),
        "hard": terms.hard_GV,
        "masked": terms.masked_B.sum(),
        "frames": terms.frames_B.sum(),
    }
