"""From a config and the sizes of its items to the plan of its updates."""

from __future__ import annotations

import numpy as np

from engine.batching.plan import FixedPlan, Plan
from engine.config.schema import RunConfig


def open_plan(config: RunConfig, sizes: np.ndarray, *, manifest: str) -> Plan:
    """Return the plan of a run.

    Args:
        config: the run.
        sizes: (N, 1) seconds, or (N, 2) seconds and tokens, of the training items.
        manifest: names the dataset's content, so that a resume notices when files changed.
    """
    batch = config.batch
    return FixedPlan(
        len(sizes), batch.items, batch.micro_batch, config.seed, manifest, config.segment_s
    )
