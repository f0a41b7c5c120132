"""How the data are checked, sized and read. No torch here: the dataset is named, not imported."""

from __future__ import annotations

import numpy as np

from engine.config.errors import DataError, Problem
from engine.data.checks.findings import Contents, Progress, Survey, make_survey
from engine.data.files.rates import check_all_rates
from engine.data.kinds import DataKind
from engine.data.unlabelled.items import left_out_clause
from tar_shards.settings import TarShards
from tar_shards.shards import Shards

SPLITS = ("data.train", "data.valid")


def check(data: TarShards) -> None:
    """Check everything before a run is queued.

    Raises:
        DataError: with all problems at once.
    """
    problems: list[Problem] = []
    for setting in SPLITS:
        try:
            shards = Shards(data, setting)
            shards.items(data, setting)
            check_all_rates(shards.infos, data.rate_hz, setting=setting)
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)


def survey(
    data: TarShards, *, content: bool = True, progress: Progress | None = None
) -> list[Survey]:
    """Return what `sepdash data check` shows; it does not listen to the recordings."""
    found = []
    for setting in SPLITS:
        shards = Shards(data, setting)
        contents = Contents(shards.infos, [], layout="recordings in tar shards")
        found.append(make_survey(shards.folder, setting, contents=contents, findings=[]))
    return found


def warnings(data: TarShards) -> list[str]:
    """Return what is allowed but may be a mistake: here, what is skipped."""
    clauses = {
        setting: left_out_clause(Shards(data, setting).items(data, setting), data)
        for setting in SPLITS
    }
    return [f"{setting}: {clause}" for setting, clause in clauses.items() if clause]


def sizes(data: TarShards) -> np.ndarray:
    """Return (N, 1) seconds of each training item, by which batches are planned."""
    items = Shards(data, "data.train").items(data, "data.train")
    return items.lengths[:, None] / data.rate_hz


KIND = DataKind(check, survey, warnings, sizes, dataset="tar_shards.dataset:open_shards")
