"""`sepdash tune`: measures which settings run a preset fastest on this device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from jobs.home import Home
from tui.cli.common import (
    device_option,
    json_option,
    plain,
    preset_argument,
    print_json,
    print_table,
    set_option,
    with_home,
)
from tui.cli.numbers import Number

if TYPE_CHECKING:
    from engine.tuning.setups import Options, Tuning
    from jobs.tuning import Found

_EXAMPLES = """\b
Examples:
  sepdash tune denoise/small                            suggest settings, with a table of trials
  sepdash tune bandwidth/audio-unet --items 256 --free 0.1
  sepdash tune transducer/librispeech --seconds 3600 --set data.train=~/LibriSpeech
  sepdash tune denoise/small --devices 2                also two devices that train together
  sepdash tune denoise/audio-unet --keep precision.dtype --save denoise/tuned
"""
_GIB = 2**30


@click.command(epilog=_EXAMPLES)
@preset_argument()
@set_option
@click.option("--items", type=click.IntRange(1, 65_536), help="Items per update.")
@click.option("--seconds", type=Number(0, min_open=True), help="Audio seconds per update.")
@click.option("--tokens", type=Number(0, min_open=True), help="Tokens per update.")
@click.option(
    "--free", type=Number(0, 0.9), default=0.08, show_default=True,
    help="Fraction of the memory to keep free.",
)  # fmt: skip
@click.option(
    "--memory", "memory_gib", type=Number(0, min_open=True),
    help="Memory limit in GiB [default: available memory minus a safety reserve].",
)  # fmt: skip
@click.option(
    "--budget-s", type=Number(5, 86_400), default=300.0, show_default=True,
    help="Time limit of the search in seconds; it ends earlier once everything is decided. The current "
    "trial and the final check may exceed it.",
)  # fmt: skip
@click.option(
    "--compile/--no-compile", default=None, help="Also try torch.compile [default: on GPUs only]."
)
@click.option(
    "--keep", multiple=True, metavar="KEY", help="Keep this setting unchanged. Can be repeated."
)
@device_option()
@click.option(
    "--devices", "num_devices", type=click.IntRange(1, 64),
    help="Measure several devices that train together, too [default: precision.devices].",
)  # fmt: skip
@click.option("--fresh", is_flag=True, help="Measure again, ignoring stored results.")
@click.option("--save", metavar="NAME", help="Save the result as a user preset.")
@json_option
@with_home
def tune(
    preset: str, *, assignments: tuple[str, ...], num_devices: int | None, fresh: bool,
    save: str | None, as_json: bool, home: Home, **asked: Any,
) -> None:  # fmt: skip
    """Benchmark a preset on this machine and suggest faster settings.

    Measures memory and speed on batches of noise in the shape of the preset; reads the training data
    only if its items differ in length.
    """
    from engine.child_processes import Cancelled
    from jobs.tuning import tunable_config, tune
    from presets.catalogue import Catalogue
    from tui.reports.tuning import line, set_lines

    options = _options(**asked)
    catalogue = Catalogue(home.presets)
    values = catalogue.read(preset)
    if num_devices is not None:
        assignments = (*assignments, f"precision.devices={num_devices}")
    config = tunable_config(values, assignments)
    if save is not None:
        catalogue.check_new(save)
    try:
        outcome = tune(
            home,
            config,
            options=options,
            fresh=fresh,
            emit=lambda row: click.echo(line(row), err=True),
        )
    except Cancelled:
        raise click.Abort from None
    if as_json:
        print_json(
            {**plain(outcome.result), "kept": outcome.kept, "set": set_lines(outcome.result)}
        )
    else:
        _print(outcome)
    if save is not None:
        path = _save(catalogue, save, preset=preset, assignments=assignments, tuning=outcome.result)
        click.echo(f"saved as {save}: {path}", err=as_json)


def _options(*, memory_gib: float | None, keep: tuple[str, ...], **asked: Any) -> Options:
    from engine.config.errors import nearest
    from engine.config.fields import list_settings
    from engine.tuning.setups import Options

    given = [f"--{name}" for name in ("items", "seconds", "tokens") if asked[name] is not None]
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)} are alternatives; give only one of them")
    known = [item.key for item in list_settings()]
    for key in keep:
        if key not in known:
            raise click.UsageError(f"--keep {key}: unknown setting{nearest(key, known)}")
    memory_bytes = None if memory_gib is None else int(memory_gib * _GIB)
    return Options(memory_bytes=memory_bytes, keep=keep, **asked)


def _print(outcome: Found) -> None:
    from tui.reports.tuning import (
        HEADERS,
        SCALING_HEADERS,
        cells,
        scaling_cells,
        set_lines,
        summary,
    )

    result = outcome.result
    if outcome.kept:
        click.echo("stored result of an earlier search; use --fresh to measure again", err=True)
    print_table(HEADERS, list(map(cells, result.rows)), right=" ".join(HEADERS[2:6]))
    if result.scaling:
        click.echo()
        print_table(
            SCALING_HEADERS,
            list(map(scaling_cells, result.scaling)),
            right=" ".join(SCALING_HEADERS),
        )
    click.echo("\n" + "\n".join(summary(result)))
    if result.settings:
        click.echo(" ".join(f"--set {text!r}" if " " in text else f"--set {text}"
                            for text in set_lines(result)))  # fmt: skip
    else:
        click.echo("no faster settings found; keep the preset unchanged")


def _save(
    catalogue: Any, name: str, *, preset: str, assignments: tuple[str, ...], tuning: Tuning
) -> Any:
    """Save the preset with overrides and chosen settings; it extends `preset` where possible."""
    from engine.config.overrides import apply_overrides
    from presets.merging import difference
    from tui.reports.tuning import set_lines

    base = catalogue.read(preset)
    values = apply_overrides(base, [*assignments, *set_lines(tuning)])
    changed = None if _clears(base, values) else difference(base, values)
    what = f"{preset}, tuned for {tuning.device_name}"
    if changed is None:
        return catalogue.save(name, values, description=what)
    return catalogue.save(name, changed, extends=preset, description=what)


def _clears(base: Any, values: Any) -> bool:
    """Return whether a value of `base` is removed, which a preset that extends it can't express."""
    if not isinstance(base, dict) or not isinstance(values, dict):
        return base is not None and values is None
    return any(_clears(base[key], values[key]) for key in base if key in values)
