"""The codes of the items of a run by a trained codec: made once before training, stored, and read.

For recipes that learn codes: they ask `ItemCodes` for its stages, hand it their results, and read codes. The
stage `codec` embeds the codec in every checkpoint of the run; the stage `codes` stores two bytes a code.
Letters: N codes of an item, K codes that there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch

from engine.batching.batch import Split
from engine.checkpoints.recipe_files import RecipeState
from engine.clustering.report import ClusterReport
from engine.config.codec_fit import CODEC
from engine.config.errors import ConfigError, Problem, counted
from engine.config.references import folder_named
from engine.config.schema import RunConfig
from engine.recipes.base import Opening, Stage
from engine.recipes.codec.trained_codec import (
    STAGE,
    CodecFacts,
    TrainedCodec,
    codec_hash_of,
    load_codec,
)
from engine.recipes.stored_labels.label_files import Items, LabelFiles, Words
from engine.recipes.stored_labels.labels_stage import SPLITS, LabelsStage, in_chunks

Notices = list[tuple[Literal["info", "warning"], str]]
_INIT_FROM = "init_from"
_FOLDER = "codes"
_STEP_S = 15.0
_WORDS = Words(label="code", place="code", model="the codec", value="code")


class CodedItems(Items, Protocol):
    """The items of a split, each of which is coded as a whole."""

    @property
    def manifest(self) -> str:
        """Return a hash of what the items are."""

    def num_samples(self, index: int) -> int:
        """Return the length of an item at the rate of the codec."""


class ItemCodes:
    """Makes, stores and reads the codes of a run; can be sent to a reader process.

    Args:
        config: the run, whose `codec` names the codec.
        opening: the run's folder, and the checkpoints of runs that it needs.
        items: returns the items of a split, which it opens once.
    """

    def __init__(
        self, config: RunConfig, opening: Opening, *, items: Callable[[Split], CodedItems]
    ) -> None:
        self._config, self._opening = config, opening
        self._items = items
        self._codec: TrainedCodec | None = None
        self._facts: CodecFacts | None = None
        self._files: dict[Split, LabelFiles] = {}
        self._num_codes: dict[Split, np.ndarray] = {}

    def __getstate__(self) -> dict[str, object]:
        """Pickle without the network: reader processes only read."""
        return {**self.__dict__, "_codec": None}

    def stages(self) -> list[Stage]:
        """Return the stages that make the codes."""
        return [CodecStage(self), CodesStage(self)]

    def use(self, stage: str, result: RecipeState) -> None:
        """Take the result of a stage, made now or that of a checkpoint.

        Raises:
            ValueError: when the embedded codec is not the one that was saved.
        """
        if stage == STAGE:
            self._take(TrainedCodec.of_result(result))

    @property
    def codec(self) -> TrainedCodec:
        """The codec of the run, on the device that it was last moved to.

        Raises:
            CheckpointError: when its checkpoint is missing or damaged.
            ConfigError: when it does not suit this run.
        """
        if self._codec is None:
            # A trial of the batch planner runs no stages.
            self._take(self.opened())
        assert self._codec is not None
        return self._codec

    @property
    def facts(self) -> CodecFacts:
        """What there is to know of the codec; raises as `codec` does."""
        return self._facts or self.codec.facts

    def num_codes(self, split: Split) -> np.ndarray:
        """Return the number of codes of each item, int64; 0 where an item is too short for one."""
        if split not in self._num_codes:
            items, facts = self.items(split), self.facts
            counts = [facts.codes_of(items.num_samples(index)) for index in range(len(items))]
            self._num_codes[split] = np.array(counts, np.int64)
        return self._num_codes[split]

    def codes(
        self, split: Split, index: int, *, start: int = 0, count: int | None = None
    ) -> np.ndarray:
        """Return codes of an item, (N,) int64; all of them without `count`.

        Raises:
            ValueError: when the item has fewer.
        """
        return self.label_files(split).read(index, start=start, count=count)

    def opened(self) -> TrainedCodec:
        """Return the codec that the settings name, checked to suit this run and the weights that it starts from.

        Raises:
            CheckpointError: when its checkpoint is missing or damaged.
            ConfigError: when it does not suit.
        """
        config, needs = self._config, self._opening.needs
        setting = CODEC if config.codec is not None else _INIT_FROM
        # A trial of the batch planner knows no runs, but may be given a folder.
        checkpoint = needs.get(setting) or folder_named(config, setting)
        if checkpoint is None:
            named = getattr(config, setting)
            message = (
                f"the checkpoint of {named} is gone, and codes have to be made with its codec; restore it and "
                "resume, or enqueue a new run"
            )
            raise ConfigError([Problem(setting, message)])
        codec = load_codec(checkpoint, setting=setting)
        rate_hz = config.data.rate_hz
        if codec.facts.rate_hz != rate_hz:
            message = (
                f"{checkpoint} has a codec at {codec.facts.rate_hz} Hz, but data.rate_hz = {rate_hz}; set it to "
                f"{codec.facts.rate_hz}, or train a codec at {rate_hz} Hz"
            )
            raise ConfigError([Problem(setting, message)])
        start = needs.get(_INIT_FROM)
        theirs = None if start is None else codec_hash_of(start)
        if theirs not in (None, codec.facts.hash) and config.init_strict:
            message = (
                f"{checkpoint} has codec {codec.facts.hash}, but the weights in {start} speak the codes of codec "
                f"{theirs}, and codes of another codec would come out as noise; leave codec out to use that of "
                "the weights, or set init_strict = false to train them on other codes"
            )
            raise ConfigError([Problem(CODEC, message)])
        return codec

    def items(self, split: Split) -> CodedItems:
        """Return the items of a split."""
        return self._items(split)

    def chunks(self, split: Split, items: Iterable[int]) -> list[list[int]]:
        """Return items in runs that take about half a second each."""
        return in_chunks(items, self.items(split).durations_s(), most=_STEP_S)

    def label_files(self, split: Split) -> LabelFiles:
        """Return the stored codes of a split."""
        if split not in self._files:
            folder = self._opening.folder
            if folder is None:
                raise ValueError("codes are stored in the folder of a run, and there is none here")
            self._files[split] = LabelFiles(
                folder / self._place(split), items=self.items(split), labels_N=self.num_codes(split),
                model=self.facts.hash, values=self.facts.num_codes, words=_WORDS,
            )  # fmt: skip
        return self._files[split]

    def take_over_labels(self) -> None:
        """Copy codes that another run beside this one has of the same items by the same codec."""
        folder = self._opening.folder
        assert folder is not None
        for split in SPLITS:
            place = self._place(split)
            for other in sorted(folder.parent.glob(f"*/{place}")):
                if other != folder / place:
                    self.label_files(split).take_over(other)

    def store_labels(self, split: Split, index: int, *, device: torch.device) -> None:
        """Code an item and store that."""
        wave_T = torch.from_numpy(self.items(split).audio(index)).to(device)
        index_N = self.codec.to(device).encode(wave_T[None])[0]
        self.label_files(split).write(index, index_N.cpu().numpy())

    def labels_are_stored(self) -> None:
        """Keep the codec off the device that codes were made on."""
        self.codec.to(torch.device("cpu"))

    def _take(self, codec: TrainedCodec) -> None:
        self._codec, self._facts = codec, codec.facts
        self._files.clear()
        self._num_codes.clear()

    def _place(self, split: Split) -> Path:
        return Path(_FOLDER) / self.facts.hash / self.items(split).manifest


class CodecStage(Stage):
    """Takes the codec of another run into this one."""

    name = STAGE

    def __init__(self, codes: ItemCodes) -> None:
        self._codes = codes

    def num_steps(self) -> int:
        """Nothing is computed."""
        return 0

    def finish(self, state: RecipeState) -> RecipeState:
        """Return the codec."""
        return self._codes.opened().to_result()

    def notices(self, result: RecipeState) -> Notices:
        """Say which codec it is."""
        facts = TrainedCodec.of_result(result).facts
        text = f"codec {facts.hash} ({facts.source}): {facts.codes_per_s:.3g} codes of {facts.num_codes} per second"
        return [("info", text)]


class CodesStage(LabelsStage):
    """Codes every item of both splits, and stores the codes."""

    name = "codes"

    def __init__(self, codes: ItemCodes) -> None:
        super().__init__(codes)
        self._codes = codes

    def result(self, counts: Mapping[Split, np.ndarray]) -> RecipeState:
        """Return the codec, how often each code stands in the training data, and what is too short for one."""
        short = {split: int((self._codes.num_codes(split) == 0).sum()) for split in SPLITS}
        totals = {split: int(count_K.sum()) for split, count_K in counts.items()}
        values = {"codec": self._codes.facts.hash, "codes": totals, "without_codes": short}
        return RecipeState({"count": torch.from_numpy(counts["train"])}, values)

    def notices(self, result: RecipeState) -> Notices:
        """Return how training items use the codes, and how many items are too short for one."""
        count_K = result.tensors["count"].numpy()
        notices: Notices = []
        if total := int(count_K.sum()):
            report = ClusterReport.of(count_K)
            text = (
                f"codes of data.train: {total:,} codes, {report.used} of {report.clusters} different ones, "
                f"perplexity {report.perplexity:.1f}"
            )
            notices.append(("info", text))
        for split, short in result.values["without_codes"].items():
            if short:
                text = f"{counted(short, 'item')} of data.{split} are too short for a code"
                notices.append(("warning", text))
        return notices
