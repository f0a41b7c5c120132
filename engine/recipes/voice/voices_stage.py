"""The stage that keeps what a checkpoint needs to speak: the pace of the training data, and its voices.

Also refuses items that the model has no places for. Letters: R clips, F mel bands, L frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from engine.audio.speaker_package import missing
from engine.batching.batch import Split
from engine.checkpoints.recipe_files import RecipeState
from engine.config.errors import DataError, Problem, counted
from engine.recipes.base import Stage
from engine.recipes.voice.references import References
from models.voice.settings import VoiceConfig

NAME = "voices"


@dataclass(frozen=True, slots=True)
class Voices:
    """What a trained model speaks like.

    Attributes:
        codes_per_token: codes for each token of the training texts.
        clips: training speaker -> log-mel frames (R, F, L) of reference clips.
    """

    codes_per_token: float
    clips: dict[str, Tensor]

    def to_result(self) -> RecipeState:
        """Return it as the result of a stage."""
        values = {"codes_per_token": self.codes_per_token, "speakers": list(self.clips)}
        tensors = {f"clips.{n}": mel_RFL for n, mel_RFL in enumerate(self.clips.values())}
        return RecipeState(tensors, values)

    @classmethod
    def of_result(cls, result: RecipeState) -> Voices:
        """Return what the stage has kept."""
        clips = {
            name: result.tensors[f"clips.{n}"] for n, name in enumerate(result.values["speakers"])
        }
        return cls(float(result.values["codes_per_token"]), clips)


@dataclass(frozen=True, slots=True)
class ItemLengths:
    """Tokens and codes of the items of a split, (N,) each, and the seconds of a code."""

    split: Split
    tokens_N: np.ndarray
    codes_N: np.ndarray
    code_s: float


class VoicesStage(Stage):
    """Measures the pace, and reads clips of training speakers.

    Args:
        config: of the model, whose places items have to fit.
        lengths: those of both splits.
        references: reads the clips.
    """

    name = NAME

    def __init__(
        self,
        config: VoiceConfig,
        *,
        lengths: Callable[[Split], ItemLengths],
        references: Callable[[], References],
    ) -> None:
        self._config, self._lengths, self._references = config, lengths, references

    def num_steps(self) -> int:
        """All is done at the end."""
        return 0

    def finish(self, state: RecipeState) -> RecipeState:
        """Return pace and clips.

        Raises:
            DataError: when items are longer than the model has places for.
        """
        sides = [self._lengths("train"), self._lengths("valid")]
        problems = [problem for side in sides for problem in self._too_long(side, sides)]
        if problems:
            raise DataError(problems)
        tokens, codes = int(sides[0].tokens_N.sum()), int(sides[0].codes_N.sum())
        return Voices(codes / max(1, tokens), self._references().voices()).to_result()

    def notices(self, result: RecipeState) -> Sequence[tuple[Literal["info", "warning"], str]]:
        """Return the pace, and how many speakers there are."""
        voices = Voices.of_result(result)
        text = (
            f"{counted(len(voices.clips), 'training speaker')}; {voices.codes_per_token:.2f} codes for each "
            "token of text"
        )
        notices: list[tuple[Literal["info", "warning"], str]] = [("info", text)]
        if lacking := missing():
            notices.append(("info", f"speaker similarity is not measured: it requires {lacking}"))
        return notices

    def _too_long(self, side: ItemLengths, sides: Sequence[ItemLengths]) -> list[Problem]:
        """Say which items of a side are too long, and which setting would do for both."""
        model, problems = self._config, []
        for what, found_N, room, setting, most in (
            ("tokens", side.tokens_N, model.text_room, "model.max_text", max(int(one.tokens_N.max()) for one in sides)),
            ("codes", side.codes_N, model.code_room, "model.max_codes", max(int(one.codes_N.max()) for one in sides)),
        ):  # fmt: skip
            too_many = int((found_N > room).sum())
            if not too_many:
                continue
            longest = int(found_N.max())
            length = f" ({longest * side.code_s:.1f} s)" if what == "codes" else ""
            less = (
                f"lower data.max_s to {room * side.code_s:.1f}"
                if side.split == "train" and what == "codes"
                else "leave them out"
            )
            message = (
                f"{counted(too_many, 'item')} of {len(found_N):,} have more than {room} {what}, START and STOP "
                f"aside; the longest has {longest}{length}. Set {setting} = {most + 2}, or {less}"
            )
            problems.append(Problem(f"data.{side.split}", message))
        return problems


def code_entropy(count_K: Tensor, num_items: int) -> float:
    """Return the entropy of the codes of all items in nats, STOP included: what guessing by frequency costs."""
    count = torch.cat([count_K.double(), torch.tensor([float(num_items)], dtype=torch.float64)])
    share = count[count > 0] / count.sum()
    return float(-(share * share.log()).sum())


def histogram_loss(count_K: Tensor, num_items: int) -> np.ndarray:
    """Return (K + 1,) nats that each code, and STOP, costs by the frequencies of training, one added to each."""
    count = np.append(count_K.double().numpy(), float(num_items)) + 1.0
    cost: np.ndarray = -np.log(count / count.sum())
    return cost
