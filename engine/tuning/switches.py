"""The settings to try on a device: each affects speed, none affects which items are used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.config.schema import RunConfig
from engine.training.run_warnings import overflows_in_fp16
from engine.tuning.setups import Options
from engine.tuning.trials import Facts


def switches(config: RunConfig, facts: Facts, *, options: Options) -> Iterator[tuple[str, Any]]:
    """Yield settings with values to try, ordered by expected gain."""
    for key, value in _all(config, facts, options=options):
        if key not in options.keep:
            yield key, value


def _all(config: RunConfig, facts: Facts, *, options: Options) -> Iterator[tuple[str, Any]]:
    precision = config.precision
    on_gpu = facts.device == "cuda"
    if "tf32" in facts.formats:
        yield "precision.tf32", not precision.tf32
    for dtype in ("fp32", "bf16", "fp16"):
        if dtype == "fp16" and overflows_in_fp16(config):
            continue
        if dtype in facts.formats and dtype != precision.dtype:
            yield "precision.dtype", dtype
    if on_gpu and not precision.deterministic:
        yield "precision.cudnn_benchmark", not precision.cudnn_benchmark
    if facts.has_2d:
        yield "precision.channels_last", not precision.channels_last
    wanted = options.compile if options.compile is not None else on_gpu
    if facts.can_compile and (wanted or precision.compile):
        yield "precision.compile", not precision.compile
