"""The section `[probe]` of an experiment file: what the features of its runs are probed with, once they ended."""

from __future__ import annotations

from pathlib import Path

from models.base.settings import Section, setting


class ProbeSettings(Section):
    """How the runs of an experiment are probed."""

    data: Path = setting(
        ..., "Labelled recordings: what `sepdash probe --data` takes.", unit="path"
    )
    test: Path | None = setting(
        None, "Manifest of test recordings; empty: some takes of data.", unit="path"
    )
    clusters: int = setting(
        100, "Number of clusters for PNMI and purity.", unit="clusters", ge=2, le=10_000
    )
    limit: int = setting(
        2_000, "Maximum number of recordings for training the probes, and for testing them.",
        unit="recordings", ge=10, le=1_000_000,
    )  # fmt: skip
