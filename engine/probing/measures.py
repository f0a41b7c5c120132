"""What a probe measures, declared once: name, title, direction, and what chance gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Task = Literal["word", "left_out", "speaker"]


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure of frozen features.

    Attributes:
        title: the head of its column.
        about: what it is, for people.
        rises: whether higher is better; None: neither is (speakers may be meant to be told apart, or not).
        task, pooling: of a linear probe; empty for others.
        margin: smallest difference that counts.
    """

    name: str
    title: str
    about: str
    rises: bool | None = True
    task: Task | None = None
    pooling: str = ""
    margin: float = 0.01


MEASURES: Mapping[str, Measure] = {
    item.name: item
    for item in (
        Measure("left_out_segments", "word new spk 4seg",
                "word accuracy on a speaker left out of the probe, four segments",
                task="left_out", pooling="segments"),
        Measure("left_out_mean", "word new spk mean",
                "word accuracy on a speaker left out of the probe, mean over frames",
                task="left_out", pooling="mean"),
        Measure("word_segments", "word 4seg", "word accuracy on new takes, four segments",
                task="word", pooling="segments"),
        Measure("word_mean", "word mean", "word accuracy on new takes, mean over frames",
                task="word", pooling="mean"),
        Measure("speaker_mean", "speaker mean", "speaker accuracy on new takes, mean over frames",
                rises=None, task="speaker", pooling="mean"),
        Measure("speaker_segments", "speaker 4seg",
                "speaker accuracy on new takes, four segments",
                rises=None, task="speaker", pooling="segments"),
        Measure("abx_within", "ABX within", "ABX error within speakers", rises=False),
        Measure("abx_across", "ABX across", "ABX error across speakers", rises=False),
        Measure("pnmi", "PNMI", "mutual information of clusters and labels over label entropy"),
        Measure("purity", "purity", "share of frames whose cluster's main label is theirs"),
        Measure("cluster_purity", "cluster purity",
                "share of frames whose label's main cluster is theirs"),
    )
}  # fmt: skip
