"""K-means on the features of a run or on MFCCs, in a child process; nothing is queued or stored in the store.

Owns the child and the end of it: a stop saves how far it is, and the same call goes on from there. Free of
torch. The result is a folder that `loss.kmeans_from` takes.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from engine.checkpoints.layout import CLUSTERING, choose_checkpoint, trained_config
from engine.child_processes import answers_of
from engine.config.errors import ConfigError, Problem
from engine.config.loading import load_config
from engine.config.references import Reference
from engine.config.schema import RunConfig
from jobs.home import Home
from jobs.machine.devices import child_environment, resolve_device
from jobs.needs import check_needs, folders_needed
from jobs.store.reader import StoreReader
from jobs.tuning import device_reserved

MFCC = "mfcc"
# The recipe whose runs have targets.
_RECIPE = "hubert"
_COMMAND = (sys.executable, "-P", "-m", "engine.programs.cluster")


@dataclass(frozen=True, slots=True)
class Progress:
    """What happens in the child: a stage came on, or something to say."""

    stage: str = ""
    done: int = 0
    total: int = 0
    number: int = 0
    count: int = 0
    text: str = ""
    is_warning: bool = False


@dataclass(frozen=True, slots=True)
class Clustering:
    """How it ended: `results` has the values of each stage that is complete."""

    folder: Path
    stopped: bool
    results: Mapping[str, Mapping[str, Any]]

    @property
    def kmeans_from(self) -> Path:
        """What `loss.kmeans_from` takes."""
        return self.folder / CLUSTERING


def config_for(
    home: Home, source: str, *, base: Mapping[str, Any], layer: int | None, clusters: int
) -> dict[str, Any]:
    """Return plain values of the config of a clustering: those of a run's data, with other targets.

    Args:
        home: where the runs are.
        source: a run, `NAME@last` and the like, a checkpoint folder, or `mfcc`.
        base: values of a preset; data and grid of frames are those of the run.
        layer: of the run.
        clusters: K.

    Raises:
        ConfigError: when there is no such run, or a layer is missing or too much.
    """
    values: dict[str, Any] = {
        name: dict(part) if isinstance(part, Mapping) else part for name, part in base.items()
    }
    values["loss"] = {**values.get("loss", {}), "clusters": clusters, "iterations": 1, "later": []}
    if source == MFCC:
        if layer is not None:
            raise ConfigError([Problem("--layer", "MFCCs have no layers; leave it out")])
        return values
    if layer is None:
        raise ConfigError(
            [Problem("--layer", "expected the layer of the run to cluster, as in --layer 6")]
        )
    values["loss"] |= {"targets_from": source, "targets_layer": layer}
    trained = _trained(home, values)
    if trained and _RECIPE in load_config(trained).data.recipes:
        values["data"] = trained["data"]
    # The grid of frames, and what waveforms and extractor ask of each other.
    for name in ("conv_kernels", "conv_strides", "conv_channels", "extractor_norm"):
        if name in trained.get("model", {}):
            values["model"] = {**values["model"], name: trained["model"][name]}
    return values


def cluster(
    home: Home,
    config: RunConfig,
    *,
    folder: Path,
    device: str,
    emit: Callable[[Progress], None],
) -> Clustering:
    """Fit k-means and label the data, on a device that no run is using.

    Ctrl-C asks the child to save and end; a second one kills it.

    Args:
        home: where the runs are that the config refers to.
        config: a run that has targets.
        folder: the result; what is there already is gone on with.
        device: auto, cpu, cuda or cuda:N; auto: what the config says.
        emit: called with progress.

    Raises:
        ConfigError: when a run that the config refers to can't give targets.
        ValueError: when the device does not exist, the data can't be read, the child failed, or the folder
            has a clustering with other settings.
        LeaseError: when a run or another measurement is using the device.
    """
    check_needs(home, {"clustering": config})
    needs = folders_needed(home, config)
    name = resolve_device(device if device != "auto" else config.precision.device)
    _require_same(folder, config)
    home.create()
    folder.mkdir(parents=True, exist_ok=True)
    job = {
        "config": config.to_dict(), "needs": needs, "folder": str(folder),
        "device": name.partition(":")[0],
    }  # fmt: skip
    with device_reserved(home, name, purpose="sepdash cluster"):
        for answer in answers_of(
            _COMMAND, job, environment=child_environment(name),
            beside=lambda child: _interrupt_closes(child, emit),
        ):  # fmt: skip
            if "stage" in answer:
                emit(Progress(**answer))
            elif answer.get("level", "info") != "info":
                # What is only worth knowing is in the results.
                emit(Progress(text=answer["notice"], is_warning=True))
            elif "done" in answer:
                return Clustering(folder, answer["stopped"], answer["results"])
    raise AssertionError("the last answer says how it ended")


def _require_same(folder: Path, config: RunConfig) -> None:
    """Refuse a folder with a clustering of another config.

    Raises:
        ValueError: naming the settings that differ.
    """
    own = dict(_settings(config.to_dict(), ""))
    for saved in (folder / "stages").glob("*/"):
        theirs = dict(_settings(trained_config(saved), ""))
        if theirs and (differing := sorted(key for key in own if own[key] != theirs.get(key))):
            raise ValueError(
                f"{folder} has a clustering with other settings ({', '.join(differing[:4])}); choose another "
                "folder with -o, or remove it"
            )


def _settings(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _trained(home: Home, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the config of the run that is clustered."""
    reference = Reference(
        "loss.targets_from", str(values["loss"]["targets_from"]), only_at_start=False
    )
    if reference.folder is not None:
        saved = choose_checkpoint(reference.folder)
        return trained_config(saved) if saved else {}
    with StoreReader(home.store) as reader:
        return reader.config(reader.run(reference.run).id)


@contextlib.contextmanager
def _interrupt_closes(
    process: subprocess.Popen[bytes], emit: Callable[[Progress], None]
) -> Iterator[None]:
    """Have the first Ctrl-C close the child's standard input, so that it saves and ends."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        emit(Progress(text="stopping: saving how far it is"))
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
