"""Probes of experiments, made by a worker as soon as their runs have ended, and the results that are kept.

Owns the files `probes/<experiment>.json`: what the child answered, from which the result is built again
when it is shown.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import quote

from engine.checkpoints.layout import choose_checkpoint
from engine.child_processes import Cancelled
from jobs.comparison.evaluations import variants_of
from jobs.home import Home
from jobs.machine.devices import child_environment
from jobs.machine.lease import FileLock
from jobs.probing.probe import Model, ProbeJob, answers_of_probe, result_of
from jobs.probing.result import ProbeResult
from jobs.store.errors import StoreError, UnknownRun
from jobs.store.reader import StoreReader
from jobs.store.writer import StoreWriter
from jobs.sweeps.probe_requests import ProbeRequest, read_request, request_path, request_paths
from models.private_files import write_private

logger = logging.getLogger(__name__)

_GOING_ON = ("queued", "running")


def due(home: Home) -> list[ProbeRequest]:
    """Return the requests whose runs have all ended.

    One that can't be read is put aside with an event, so that it is reported once.
    """
    requests = []
    for path in request_paths(home):
        try:
            requests.append(read_request(path))
        except StoreError as error:
            _put_aside(home, path, reason=str(error))
    if not requests:
        return []
    with StoreReader(home.store) as reader:
        states = {run.id: run.state for run in reader.runs()}
    return [
        request
        for request in requests
        if not any(states.get(run) in _GOING_ON for run in request.runs)
    ]


def serve(
    home: Home,
    request: ProbeRequest,
    *,
    device: str,
    echo: Callable[[str], None],
    cancel: Event,
) -> None:
    """Make a probe, keep its result and remove the request; a problem is the result, too.

    Once `cancel` is set, the request stays for the next worker.
    """
    lock = FileLock(home.locks / f"probe-{quote(request.experiment, safe='')}.lock")
    if not lock.acquire():
        return
    try:
        if request not in due(home):
            # Made by another worker, or runs have joined it.
            return
        echo(f"probe of {request.experiment} started")
        try:
            kept = _made(home, request, device=device, cancel=cancel)
            text = f"probe of {request.experiment}: `sepdash probe {request.experiment}` shows it"
        except Cancelled:
            return
        except (ValueError, OSError) as error:
            kept = {"problem": str(error)}
            text = f"probe of {request.experiment} failed: {error}"
        except Exception as error:
            # Boundary of the worker: a bug here ends a probe, not the night.
            logger.exception("the probe of %s can't be made", request.experiment)
            kept = {"problem": f"{type(error).__name__}: {error}"}
            text = f"probe of {request.experiment} failed: {kept['problem']}"
        write_private(result_path(home, request.experiment), json.dumps(kept))
        _remove(home, request)
    finally:
        lock.release()
    failed = "problem" in kept
    with StoreWriter(home.store) as store:
        store.add_event(None, "warning" if failed else "info", kind="probe", message=text)
    echo(text)


def kept_result(home: Home, experiment: str) -> ProbeResult | None:
    """Return the result of an experiment's probe; None when there is none yet.

    Raises:
        ValueError: when the probe failed, with the reason.
        StoreError: when the file can't be read.
    """
    path = result_path(home, experiment)
    if not path.exists():
        return None
    try:
        kept = json.loads(path.read_text())
        if "problem" not in kept:
            job = _job_of(kept["job"])
            return result_of(job, kept["answers"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{path}: can't be read ({error}); remove this file") from None
    raise ValueError(f"the probe of {experiment} failed: {kept['problem']}")


def result_path(home: Home, experiment: str) -> Path:
    """Return the file of a result."""
    return home.probes / f"{quote(experiment, safe='')}.json"


def _remove(home: Home, request: ProbeRequest) -> None:
    """Remove a request that is served, unless runs have joined it meanwhile."""
    path = request_path(home, request.experiment)
    if path.exists() and read_request(path) == request:
        path.unlink(missing_ok=True)


def _put_aside(home: Home, path: Path, *, reason: str) -> None:
    if not path.exists():
        # Removed meanwhile, by another worker that has made its probe.
        return
    aside = path.with_name(f"{path.name}.unreadable")
    path.replace(aside)
    message = (
        f"a probe is not made, since its request can't be read; it was moved to {aside}: {reason}"
    )
    logger.warning(message)
    with StoreWriter(home.store) as store:
        store.add_event(None, "warning", kind="probe", message=message)


def _made(home: Home, request: ProbeRequest, *, device: str, cancel: Event) -> dict[str, Any]:
    models = _models(home, request)
    if not models:
        raise ValueError("none of its runs has finished with a checkpoint")
    job = ProbeJob(
        models, Path(request.data), test=None if request.test is None else Path(request.test),
        clusters=request.clusters, limit=request.limit,
    )  # fmt: skip
    answers = answers_of_probe(
        job, device=device.partition(":")[0], environment=child_environment(device), cancel=cancel
    )
    kept = [answer for answer in answers if "rule" in answer or "scores_of" in answer]
    return {"job": _kept_job(job), "answers": kept}


def _models(home: Home, request: ProbeRequest) -> tuple[Model, ...]:
    found = []
    with StoreReader(home.store) as reader:
        for run_id in request.runs:
            try:
                run = reader.run(run_id)
            except UnknownRun:
                continue
            if run.state == "finished":
                found.append((run, reader.config(run.id)))
    variants = variants_of(found)
    return tuple(
        Model(run.name, folder, variant=variants[run.id], seed=run.seed)
        for run, _ in found
        if (folder := choose_checkpoint(home.run_folder(run.id))) is not None
    )


def _kept_job(job: ProbeJob) -> dict[str, Any]:
    models = [
        {"name": m.name, "folder": str(m.folder), "variant": m.variant, "seed": m.seed}
        for m in job.models
    ]
    return {"models": models, "data": str(job.data)}


def _job_of(kept: Mapping[str, Any]) -> ProbeJob:
    models = tuple(Model(**{**m, "folder": Path(m["folder"])}) for m in kept["models"])
    return ProbeJob(models, Path(kept["data"]))
