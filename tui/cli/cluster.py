"""`sepdash cluster`: k-means on a layer of a run, or on MFCCs, and the labels that follow from it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.home import Home
from models.user_paths import expanded
from tui.cli.common import (
    complete_model,
    device_option,
    json_option,
    out_option,
    print_json,
    set_option,
    with_home,
)

if TYPE_CHECKING:
    from jobs.clustering import Clustering, Progress

_EXAMPLES = """\b
Examples:
  sepdash cluster mfcc --k 100 --set data.train=~/speech/train --set data.valid=~/speech/valid
  sepdash cluster night-1 --layer 6 --k 500
  sepdash cluster night-1@last --layer 9 --k 500 -o ~/clusters/large
"""
_PRESET = "ssl/hubert-small"
_INTERRUPTED = 130


@click.command(epilog=_EXAMPLES)
@click.argument("source", metavar="RUN|mfcc", shell_complete=complete_model)
@click.option(
    "--layer",
    type=click.IntRange(0, 96),
    help="Layer of the run; 0 is the input of the first layer.",
)
@click.option(
    "--k", "clusters", type=click.IntRange(2, 65_535),
    help="Number of clusters [default: 100 for MFCCs, 500 for a layer].",
)  # fmt: skip
@click.option(
    "--preset", metavar="PRESET",
    help=f"Settings beside those of the run: data and grid of frames [default: {_PRESET}].",
)  # fmt: skip
@set_option
@out_option(
    "Folder of the result [default: named after source, layer and clusters, in the home].",
    also=["--output"],
)
@device_option()
@json_option
@with_home
def cluster(
    source: str, *, layer: int | None, clusters: int | None, out: Path | None, as_json: bool,
    home: Home, **options: Any,
) -> int:  # fmt: skip
    """Cluster the features of a run, or MFCCs, and label its data.

    No features are written to disk: k-means is fitted on a sample in memory, then every frame is
    labelled. Ctrl-C saves; the same command continues. A run uses the result by loss.kmeans_from;
    a run without it makes its own clusters when it starts.
    """
    from engine.config.overrides import config_with, set_options
    from jobs import clustering
    from presets.catalogue import Catalogue

    if clusters is None:
        clusters = 100 if source == clustering.MFCC else 500
    values = clustering.config_for(
        home,
        source,
        base=Catalogue(home.presets).read(options["preset"] or _PRESET),
        layer=layer,
        clusters=clusters,
    )
    config = config_with(values, options["assignments"])
    folder = out or home.clusters / _name(source, layer, clusters=clusters)
    teller = _Teller()
    result = clustering.cluster(
        home,
        config,
        folder=expanded(folder).absolute(),
        device=options["device"],
        emit=teller.tell,
    )
    teller.end_line()
    if result.stopped:
        click.echo("stopped; the same command continues", err=True)
        return _INTERRUPTED
    settings = _settings(result, config.to_dict()["loss"])
    if as_json:
        print_json({"folder": result.folder, "results": result.results, "set": settings})
        return 0
    for line in _reports(result):
        click.echo(line)
    click.echo(f"clusters and labels are in {result.folder}")
    click.echo("to train on them: " + set_options(settings))
    return 0


def _name(source: str, layer: int | None, *, clusters: int) -> str:
    stem = "".join(char if char.isalnum() or char in "-_." else "-" for char in source).strip("-.")
    return "-".join([stem or "run", *([] if layer is None else [f"layer{layer}"]), f"k{clusters}"])


def _reports(result: Clustering) -> Iterator[str]:
    from engine.clustering.report import ClusterReport

    for stage, name in (("clusters", "sample"), ("labels", "data.train")):
        if values := result.results.get(stage, {}).get("report"):
            yield f"{name + ':':12}{ClusterReport(**values).text}"


def _settings(result: Clustering, loss: dict[str, object]) -> list[str]:
    found = [f"loss.kmeans_from={result.kmeans_from}", f"loss.clusters={loss['clusters']}"]
    if loss["targets_from"] is not None:
        found += [f"loss.{name}={loss[name]}" for name in ("targets_from", "targets_layer")]
    return found


class _Teller:
    """Prints progress to stderr: one line that is rewritten in a terminal, a few lines elsewhere."""

    def __init__(self) -> None:
        self._stage = ""
        self._began, self._from = 0.0, 0
        self._printed = -1
        self._line_is_open = False

    def tell(self, progress: Progress) -> None:
        """Print how far it is, or a warning."""
        from tui.reports import formats

        if progress.text:
            self.end_line()
            word = "warning: " if progress.is_warning else ""
            click.echo(f"{word}{formats.clean(progress.text)}", err=True)
            return
        if progress.stage != self._stage:
            self.end_line()
            self._stage, self._printed = progress.stage, -1
            self._began, self._from = time.monotonic(), progress.done
        share = progress.done / progress.total if progress.total else 1.0
        made = progress.done - self._from
        left = ""
        if made and progress.done < progress.total:
            seconds = (time.monotonic() - self._began) / made * (progress.total - progress.done)
            left = f", {formats.duration(seconds)} left"
        text = f"{progress.stage} ({progress.number} of {progress.count}) {formats.percent(share)}{left}"
        if sys.stderr.isatty():
            click.echo(f"\r{text:<60}", nl=False, err=True)
            self._line_is_open = True
        elif int(share * 4) > self._printed:
            self._printed = int(share * 4)
            click.echo(text, err=True)

    def end_line(self) -> None:
        """End the line that is rewritten, if one was begun."""
        if self._line_is_open:
            click.echo(err=True)
            self._line_is_open = False
