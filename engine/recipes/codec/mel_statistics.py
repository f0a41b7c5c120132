"""The stage that measures mean and deviation of each mel band over the training data. Letters: F mel bands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from engine.audio.log_mel import BandSums, Normalisation, measured_items
from engine.audio.mel_spectrogram import MelSpectrogram
from engine.checkpoints.recipe_files import RecipeState
from engine.config.errors import DataError, Problem
from engine.data.unlabelled.dataset import UnlabelledDataset
from engine.recipes.base import Stage
from engine.recipes.stored_labels.labels_stage import in_chunks

NAME = "mel-statistics"
_STEP_S = 30.0
# In nats. A band without content (audio that was recorded at a lower rate) must not be blown up.
_SMALLEST_STD = 0.1


class MelStatistics(Stage):
    """Reads an even selection of the training items.

    Args:
        open_items: opens the training items.
        transform: how they become log-mel frames.
        about: the transform and the codes in words, for the log.
    """

    name = NAME

    def __init__(
        self,
        open_items: Callable[[], UnlabelledDataset],
        transform: MelSpectrogram,
        *,
        about: str,
    ) -> None:
        self._open_items = open_items
        self._transform = transform
        self._about = about
        self._chunks: list[list[int]] = []

    def num_steps(self) -> int:
        """Return in how many steps the items are read."""
        items = self._open_items()
        durations_s = items.durations_s()
        self._chunks = in_chunks(measured_items(durations_s), durations_s, most=_STEP_S)
        return len(self._chunks)

    def start(self) -> RecipeState:
        """Return sums of nothing."""
        return RecipeState(BandSums.of(self._transform.num_mels).tensors, {"seconds": 0.0})

    def step(self, index: int, state: RecipeState, *, device: torch.device) -> RecipeState:
        """Add some of the items."""
        items, sums = self._open_items(), BandSums(state.tensors)
        for item in self._chunks[index]:
            wave_T = torch.from_numpy(items.audio(item)).to(device)
            sums.add(self._transform.log_mel(wave_T[None])[0].T)
            state.values["seconds"] += len(wave_T) / self._transform.rate_hz
        return RecipeState(sums.tensors, state.values)

    def finish(self, state: RecipeState) -> RecipeState:
        """Return `mean` and `std`, (F,) float32 in nats, and the number of bands without content.

        Raises:
            DataError: when everything is silent.
        """
        found = BandSums(state.tensors).normalisation()
        empty_F = found.std_F < _SMALLEST_STD
        if bool(empty_F.all()):
            message = (
                "the training audio is silent, so there is nothing to code; replace the files "
                "(`sepdash data check` lists silent ones)"
            )
            raise DataError([Problem("data.train", message)])
        std_F = found.std_F.clamp(min=_SMALLEST_STD)
        values = {**state.values, "empty_bands": int(empty_F.sum())}
        return RecipeState({"mean": found.mean_F, "std": std_F}, values)

    def notices(self, result: RecipeState) -> Sequence[tuple[Literal["info", "warning"], str]]:
        """Return the transform and the rate of codes, and whether bands have no content."""
        seconds = result.values["seconds"]
        text = f"{self._about}; bands normalised over {seconds:.0f} s of training audio"
        notices: list[tuple[Literal["info", "warning"], str]] = [("info", text)]
        if empty := result.values["empty_bands"]:
            warning = (
                f"{empty} of {self._transform.num_mels} mel bands hardly change over the training audio: it "
                "was recorded at a lower sampling rate, or filtered; a lower data.rate_hz or model.f_max_hz "
                "would spend no codes on them"
            )
            notices.append(("warning", warning))
        return notices


def normalisation_of(result: RecipeState) -> Normalisation:
    """Return what the stage has measured."""
    return Normalisation(result.tensors["mean"], result.tensors["std"])


def in_whole_codes(mel_BFL: Tensor, frames_per_code: int) -> Tensor:
    """Return (B, F, L) without the last frames that fill no code."""
    frames = mel_BFL.shape[-1]
    return mel_BFL[..., : frames - frames % frames_per_code]
