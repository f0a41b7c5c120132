"""`python -m engine.programs.batch_plan < CONFIG.json`: the process that `sepdash plan` starts.

Reads a config as JSON, computes the batch plan from the sizes of its training items, and prints a
report as JSON. A user error prints one message on stderr and exits with code 2.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace

from engine.start_up import loading


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report of the config on standard input; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m engine.programs.batch_plan", description=__doc__
    )
    parser.add_argument(
        "--world", type=int, default=1, help="number of devices that train together"
    )
    options = parser.parse_args(arguments)
    try:
        report = _report(json.load(sys.stdin), options.world)
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(json.dumps(report))
    return 0


def _report(values: dict[str, object], world: int) -> dict[str, object]:
    with loading():
        from engine.batching.advice import batch_advice
        from engine.batching.recipe_plan import plan_of
        from engine.batching.report import report_on
        from engine.config.loading import load_config
        from engine.data.kinds import data_notes, data_warnings
        from engine.recipes.registry import open_recipe
        from engine.recipes.specs import spec_of
        from engine.training.run_length import run_length
        from engine.training.run_warnings import run_warnings

    config = load_config(values)
    if "cache" in type(config.data).model_fields:
        # Only runs create copies of the audio.
        config = config.model_copy(update={"data": config.data.model_copy(update={"cache": None})})
    recipe = open_recipe(config)
    sizes = recipe.sizes("train")
    plan = plan_of(config, recipe, world=world)
    report = report_on(plan, sizes)
    usual = spec_of(config.loss.recipe).large_update
    advice = batch_advice(report, usual) if usual else ""
    notes = (*report.notes, *data_warnings(config.data), *data_notes(config.data))
    size = plan.mean_size
    return asdict(
        replace(
            report,
            notes=notes,
            recommended=advice,
            length=run_length(config, size).text,
            warnings=tuple(run_warnings(config, size=size)),
        )
    )


if __name__ == "__main__":
    sys.exit(main())
