"""The checks of `sepdash doctor`: versions, devices, paths, presets and the run store."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from jobs.home import Home

Verdict = Literal["ok", "note", "problem"]
_PACKAGES = (
    "sepdash", "torch", "torchaudio", "numpy", "soundfile", "safetensors", "pydantic",
    "textual", "click", "huey", "sqlite-utils", "wandb",
)  # fmt: skip
_LOW_SPACE = 2 * 1024**3
_TORCH_PROBE = """
import json, torch
count = torch.cuda.device_count() if torch.cuda.is_available() else 0
print(json.dumps({"cuda": torch.version.cuda, "devices": count, "threads": torch.get_num_threads()}))
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report; the text of a `problem` includes the remedy."""

    area: str
    name: str
    verdict: Verdict
    text: str


def examine(home: Home) -> Iterator[Check]:
    """Yield every check, quick ones first; nothing is created or changed."""
    yield from _versions()
    yield from _devices()
    yield from _paths(home)
    yield from _packages()
    yield from _extras()
    yield from _presets(home)
    yield from _store(home)


def _versions() -> Iterator[Check]:
    python = platform.python_version()
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    hint = "" if fits else "; sepdash requires 3.11 to 3.13"
    yield Check("versions", "python", verdict="ok" if fits else "problem", text=python + hint)
    yield Check("versions", "sqlite", verdict="ok", text=sqlite3.sqlite_version)
    for name in _PACKAGES:
        try:
            yield Check("versions", name, verdict="ok", text=version(name))
        except PackageNotFoundError:
            yield Check(
                "versions", name, verdict="problem", text="not installed: reinstall sepdash"
            )


def _devices() -> Iterator[Check]:
    import psutil

    memory = psutil.virtual_memory()
    text = f"{os.cpu_count()} cores, {memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free"
    yield Check("devices", "cpu", verdict="ok", text=text)
    gpus = _gpus()
    for index, text in enumerate(gpus):
        yield Check("devices", f"cuda:{index}", verdict="ok", text=text)
    if not gpus:
        yield Check("devices", "gpu", verdict="note", text="no GPU found: runs train on the CPU")
    yield _torch(len(gpus))


def _gpus() -> list[str]:
    """Describe the GPUs reported by NVML; none without a driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        driver = pynvml.nvmlSystemGetDriverVersion()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return [_gpu(pynvml, handle, driver=driver) for handle in handles]
    except pynvml.NVMLError:
        return []
    finally:
        pynvml.nvmlShutdown()


def _gpu(nvml: object, handle: object, *, driver: str) -> str:
    name = nvml.nvmlDeviceGetName(handle)  # type: ignore[attr-defined]
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)  # type: ignore[attr-defined]
    free, total = (size / 2**30 for size in (memory.free, memory.total))
    return f"{name}, {free:.1f} of {total:.1f} GiB free, driver {driver}"


def _torch(num_gpus: int) -> Check:
    """Query torch in a child process, because importing it takes seconds."""
    result = subprocess.run(
        [sys.executable, "-P", "-c", _TORCH_PROBE], capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        return Check("devices", "torch", verdict="problem", text=f"can't be imported: {last}")
    probe = json.loads(result.stdout)
    text = f"CUDA {probe['cuda'] or 'not built in'}, usable GPUs: {probe['devices']}, CPU threads: {probe['threads']}"
    if num_gpus and not probe["devices"]:
        return Check(
            "devices",
            "torch",
            verdict="problem",
            text=f"{text}: the driver is too old for this torch, or the GPUs are hidden",
        )
    return Check("devices", "torch", verdict="ok", text=text)


def _paths(home: Home) -> Iterator[Check]:
    if not home.root.exists():
        yield Check(
            "paths",
            "home",
            verdict="note",
            text=f"{home.root} does not exist yet; the first run creates it",
        )
        return
    if not home.root.is_dir() or not os.access(home.root, os.W_OK | os.X_OK):
        yield Check(
            "paths",
            "home",
            verdict="problem",
            text=f"{home.root} is not a folder that you can write to",
        )
        return
    mode = home.root.stat().st_mode & 0o777
    private = not mode & 0o077
    hint = (
        "" if private else f"; other users have access (mode {mode:o}): run chmod 700 {home.root}"
    )
    yield Check("paths", "home", verdict="ok" if private else "problem", text=f"{home.root}{hint}")
    free = shutil.disk_usage(home.root).free
    text = f"{free / 2**30:.1f} GiB free"
    hint = "" if free > _LOW_SPACE else ": checkpoints may not fit; `sepdash rm` removes old runs"
    yield Check("paths", "disk", verdict="ok" if free > _LOW_SPACE else "problem", text=text + hint)


def _packages() -> Iterator[Check]:
    """Name what installed packages add, and what of them was left out."""
    from engine.config.kinds import installed_kinds
    from engine.recipes.specs import installed_recipes
    from presets.catalogue import installed_presets

    for plugins in (*installed_kinds(), installed_recipes(), installed_presets()):
        group = plugins.group.removeprefix("sepdash.")
        if plugins.parts:
            yield Check("packages", group, verdict="ok", text=", ".join(plugins.parts))
        for name, reason in plugins.broken.items():
            text = f"skipped {name}: {reason}"
            yield Check("packages", group, verdict="problem", text=text)


def _extras() -> Iterator[Check]:
    """Say what the optional dependencies would add."""
    from engine.audio import speaker_package
    from engine.data.files import media
    from engine.metrics.measures import MEASURES, missing_modules
    from engine.text import english, numbers, phonemes

    for extra in dict.fromkeys(measure.extra for measure in MEASURES.values() if measure.modules):
        names = [
            name for name, measure in MEASURES.items() if measure.modules and measure.extra == extra
        ]
        lacking = [name for name in names if missing_modules(name)]
        known = ", ".join(name for name in names if name not in lacking) or "none"
        text = f"metrics: {known}"
        if lacking:
            text += f"; not available: {', '.join(lacking)} (pip install 'sepdash[{extra}]')"
        yield Check("extras", extra, verdict="note" if lacking else "ok", text=text)
    for extra, what, needed in (
        ("speakers", "speaker similarity of voices", speaker_package.missing()),
        ("media", "audio in .m4a, .webm and other containers", media.missing()),
        ("tortoise", "tokens of an imported voice", english.missing()),
        ("phonemes", "phonemes as tokens", phonemes.missing()),
        ("numbers", "numbers as words", numbers.missing()),
    ):
        text = f"{what}; not available: requires {needed}" if needed else what
        yield Check("extras", extra, verdict="note" if needed else "ok", text=text)


def _presets(home: Home) -> Iterator[Check]:
    from engine.config.loading import load_config
    from presets.catalogue import Catalogue

    catalogue = Catalogue(home.presets)
    infos = catalogue.list()
    counts = Counter(info.origin for info in infos)
    shipped, own = counts.pop("shipped", 0), counts.pop("user", 0)
    of_packages = "".join(f", {number} of {name}" for name, number in sorted(counts.items()))
    yield Check(
        "presets", "found", verdict="ok", text=f"{shipped} shipped{of_packages}, {own} user"
    )
    for info in infos:
        try:
            load_config(catalogue.read(info.name))
        except ValueError as error:
            text = f"{info.path}: {str(error).replace(chr(10), '; ')}"
            yield Check("presets", info.name, verdict="problem", text=text)


def _store(home: Home) -> Iterator[Check]:
    from jobs.store.reader import StoreReader

    if not home.store.exists():
        yield Check(
            "store",
            "runs",
            verdict="note",
            text=f"{home.store} does not exist yet: no run has been queued",
        )
        return
    try:
        yield _integrity(home)
        with StoreReader(home.store) as reader:
            runs, workers = reader.runs(), [item for item in reader.workers() if item.alive]
    except (ValueError, sqlite3.Error) as error:
        text = str(error) if str(home.store) in str(error) else f"{home.store}: {error}"
        yield Check("store", "runs", verdict="problem", text=text)
        return
    counts = Counter("waiting" if run.waiting else run.state for run in runs)
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    yield Check("store", "runs", verdict="ok", text=states or "none")
    for worker in workers:
        yield Check(
            "store", "worker", verdict="ok", text=f"running on {worker.device}, pid {worker.pid}"
        )
    if not workers and (waiting := counts["queued"] + counts["waiting"] + counts["running"]):
        text = f"none is running, runs waiting: {waiting}; start one with `sepdash worker`"
        yield Check("store", "worker", verdict="note", text=text)


def _integrity(home: Home) -> Check:
    connection = sqlite3.connect(f"{home.store.as_uri()}?mode=ro", uri=True)
    try:
        answers = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
    finally:
        connection.close()
    size = f"{home.store.stat().st_size / 2**20:.1f} MiB"
    if answers == ["ok"]:
        return Check("store", "file", verdict="ok", text=f"{home.store}, {size}, intact")
    return Check(
        "store", "file", verdict="problem", text=f"{home.store} is damaged: {'; '.join(answers)}"
    )
