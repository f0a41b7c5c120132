"""Every example line of every `--help` is executed, in a folder that holds what it names.

What would start another Python process is done in this one: the program, its arguments and its answers are the
same. What takes minutes by its nature (tune, lr-find, cluster, probe) answers at once; tests of their own run it.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.config.loading import load_config
from engine.tuning.lr_curve import LrPoint, find, range_of
from jobs.clustering import Clustering
from jobs.home import Home
from jobs.lr_range import LrResult
from presets.catalogue import Catalogue
from tests.commands import commands
from tests.tui.cli import prepared
from tests.tui.cli.test_cluster import REPORT
from tests.tui.conftest import Lab
from tests.tui.dialogs.test_tune_screen import finds
from tests.tui.experiments import BATCH, add_experiment

PROBE = Path(__file__).parents[2] / "jobs" / "fakes" / "probe.py"
# Lines that are not executed here, and why.
NOT_RUN = {
    "sepdash": "opens the dashboard, which needs a terminal; tests/tui/screens",
    "sepdash demo": "trains for minutes, then opens the dashboard; tests/e2e/test_demo.py",
    "sepdash demo --headless": "trains for minutes; tests/e2e/test_demo.py",
    "sepdash worker": "runs until Ctrl-C; tests/jobs/test_worker.py",
    "sepdash worker --detach": "starts a process that outlives the test; tests/jobs/test_service.py",
    "sepdash worker --device cuda:1": "needs two GPUs, and runs until Ctrl-C",
    "sepdash sweep mine.toml --until 07:30": "asks for times of earlier runs like these; tests/jobs/sweeps/test_night.py",
    "sepdash listen baseline wide": "asks a person; tests/jobs/listening",
    "sepdash listen baseline wide --mode preference --browser": "asks a person; tests/tui/cli/test_listen.py",
    "sepdash listen baseline wide --audio ~/recordings": "asks a person; tests/jobs/listening",
    "sepdash listen baseline target": "asks a person; tests/jobs/listening",
    "sepdash data voice ~/voices --set data.tokens=phonemes --set data.language=de": "needs eSpeak NG",
    "sepdash tune denoise/small --devices 2": "needs two devices; tests/engine/tuning",
}
# What goes before a line.
AFTER = {
    "sepdash transcribe digits-1 anna/wavs -o anna/texts.jsonl": ["sepdash data cut ~/interview -o anna"],
    "sepdash data voice anna/texts.jsonl --speaker anna": [
        "sepdash data cut ~/interview -o anna",
        "sepdash transcribe digits-1 anna/wavs -o anna/texts.jsonl",
    ],
    "sepdash speak 3 --file texts.txt -o spoken --voice anna --candidates 8 --judge digits-1": [
        'sepdash speak 3 "Good morning." -o out.wav --voice a.wav --voice b.wav --save-voice anna'
    ],
    "sepdash restore ~/sepdash-backup.tar --home ~/restored": ["sepdash backup ~/sepdash-backup.tar"],
    "sepdash restore ~/sepdash-backup.tar --replace": ["sepdash backup ~/sepdash-backup.tar"],
    "sepdash data index ~/speech --verify": ["sepdash data index ~/speech"],
    "sepdash sweep mine.toml --rest": ["sepdash sweep mine.toml", "sepdash stop 1", "sepdash rm 1"],
    "sepdash search lr": ["sepdash sweep lr.toml"],
    "sepdash search lr --stop": ["sepdash sweep lr.toml"],
    "sepdash enqueue demo/baseline --set init_from=night-1": [
        "sepdash enqueue demo/baseline --name night-1 --set seed=1"
    ],
    "sepdash features models/hubert-base *.flac -o features": [
        "sepdash import hubert_base_ls960.pt -o models/hubert-base --kmeans km500.npy"
    ],
}  # fmt: skip
# Options behind the lines of a command: of minutes they make seconds, and of what an untrained model says, texts.
MORE = {
    "sepdash data digits": ["--utterances", "12"],
    "sepdash data voice anna/texts.jsonl --speaker anna": ["--max-chars", "400"],
    "sepdash import autoregressive.pth -o tts --dvae dvae.pth --tokenizer bpe.json --mel-norms m.pth": [
        "--heads",
        "4",
    ],
}
# Of the runs that examples name, in the order of their ids: name, model, state.
RUNS = (
    ("baseline-1", "separation", "finished"),
    ("batch2x-1", "separation", "finished"),
    ("third", "", "stopped"),
    ("digits-1", "recogniser", "finished"),
    ("hubert-2", "hubert", "finished"),
    ("night-2", "", "queued"),
    ("night-3", "hubert", "queued"),
    ("hubert-small", "hubert", "finished"),
    ("run-a", "hubert", "finished"),
    ("run-b", "hubert", "finished"),
    ("voice-small-1", "voice", "finished"),
    ("night-1", "hubert", "finished"),
)
# The model of the run that examples call 3.
THIRD = {"separate": "separation", "transcribe": "recogniser", "speak": "voice"}


def examples() -> dict[str, list[str]]:
    """Return the example lines by command, without the remarks behind them."""
    found: dict[str, list[str]] = {}
    for context in commands():
        for line in (context.command.epilog or "").splitlines():
            if line.startswith("  ") and line.strip():
                found.setdefault(context.command_path, []).append(
                    re.split(r"\s{2,}", line.strip())[0]
                )
    return found


def words_of(line: str, folder: Path) -> list[str]:
    """Return the words of the sepdash command in a line, as a shell would hand them over."""
    inner = re.search(r"\$\((sepdash [^)]*)\)", line)
    words = shlex.split(re.split(r" \| | >>? ", inner[1] if inner else line)[0])
    assert words.pop(0) == "sepdash", line
    expanded: list[str] = []
    for word in words:
        found = sorted(path.name for path in folder.glob(word)) if word.startswith("*") else []
        expanded += found or [word.replace("~", str(folder)) if word.startswith("~") else word]
    return expanded


EXAMPLES = examples()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared folder, and tiny models beside it."""
    made = tmp_path_factory.mktemp("prepared")
    folder = made / "folder"
    folder.mkdir()
    prepared.write_files(folder)
    models = made / "models"
    prepared.separation(models / "separation")
    prepared.recogniser(models / "recogniser", folder / "train.jsonl")
    prepared.pretrained(models / "hubert")
    prepared.published(folder, made / "published")
    prepared.voice(models / "voice", folder / "train.jsonl", made / "scratch")
    return made


def in_process(
    command: list[str], *, input: str = "", capture_output: bool = False, **_: Any
) -> subprocess.CompletedProcess[str]:
    """Do what `python -P -m PROGRAM ARGUMENTS` does."""
    said, code = io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.StringIO(input))
        if capture_output:
            patch.setattr(sys, "stdout", said)
        if "-c" in command:
            exec(command[command.index("-c") + 1], {})
        else:
            place = command.index("-m")
            code = importlib.import_module(command[place + 1]).main(command[place + 2 :])
    return subprocess.CompletedProcess(command, code, said.getvalue(), "")


def answers(command: Any, job: Any, **_: Any) -> Iterator[dict[str, Any]]:
    """Do the job of a program that answers in lines of JSON."""
    module = importlib.import_module(command[list(command).index("-m") + 1])
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            module, "answer_job", lambda work, **_: work(json.loads(json.dumps(job)), said)
        )
        module.main()
    for line in said.getvalue().splitlines():
        answer = json.loads(line)
        if "problem" in answer:
            raise ValueError(answer["problem"])
        yield answer


def quick_tuning(home: Any, config: Any, *, options: Any, emit: Any, fresh: bool) -> Any:
    """Find at once what a search for the fastest settings finds."""
    return finds(home, config, options, emit=emit, cancel=None)


def quick_test(home: Any, config: Any, *, test: Any, device: str, emit: Any) -> LrResult:
    """Return at once the curve of a learning-rate range test."""
    lrs = range_of(test.low, test.high, updates=test.updates)
    losses = 5 - 3 / (1 + np.exp(-4 * (np.linspace(-6, 0, len(lrs)) + 3)))
    points = [LrPoint(lr, float(loss), grad_norm=1.0) for lr, loss in zip(lrs, losses, strict=True)]
    return LrResult("cpu", tuple(points), find(points))


def quick_clusters(home: Any, config: Any, *, folder: Path, device: str, emit: Any) -> Clustering:
    """Return at once the report of a clustering."""
    return Clustering(folder, stopped=False, results={"clusters": {"report": REPORT}})


class Person:
    """A person with a home folder of their own, in which commands run."""

    def __init__(self, template: Path, folder: Path) -> None:
        self.template = template
        self.folder = folder
        self.home = Home.locate(folder / ".local/share/sepdash")

    def settle(self, command: str) -> None:
        """Put everything back to how an example of a command finds it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.template / "folder", self.folder, copy_function=os.link)
        verb = command.split()[-1]
        if verb == "cut":
            shutil.rmtree(self.folder / "anna")
        if verb == "digits":
            shutil.rmtree(self.folder / "data" / "digit-strings")
        if verb in ("separate", "transcribe"):
            model, kind = {
                "separate": ("separation", "si_sdr"),
                "transcribe": ("recogniser", "wer"),
            }[verb]
            shutil.copytree(
                self.template / "models" / model, self.folder / "models" / f"best-{kind}"
            )
        if verb not in ("sepdash", "enqueue", "sweep", "search", "plan", "worker"):
            self.queue(verb)

    def queue(self, verb: str) -> None:
        """Write the runs, with the checkpoint of a model each."""
        lab = Lab(self.home)
        config = load_config(Catalogue().read("denoise/small")).to_dict()
        for name, model, state in RUNS:
            ended = state != "queued"
            wanted = {"stop": "queued", "resume": "stopped", "checkpoints": "stopped"}.get(
                verb, state
            )
            run = lab.run(
                name, wanted if name == "baseline-1" else state, updates=500 if ended else 0, config=config
            )  # fmt: skip
            model = THIRD.get(verb, "separation") if name == "third" else model
            for kind in (
                ("last-000400", "best-si_sdr") if model == "separation" else ("last-000400",)
            ):
                if model:
                    place = self.home.run_folder(run) / "checkpoints" / kind
                    shutil.copytree(self.template / "models" / model, place, copy_function=os.link)
        if verb == "compare":
            names = ("baseline", "batch2x")
            ids = add_experiment(self.home, "batch-size", {name: {0: 0.0} for name in names})
            for run, name in zip(ids, names, strict=True):
                lab.writer.update_run(run, name=name)
            add_experiment(self.home, "lr", BATCH)
        lab.close()


@pytest.fixture
def person(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Person:
    """Somebody whose home is copied from the prepared folder before each line."""
    made = tmp_path / "person"
    made.mkdir()
    monkeypatch.chdir(made)
    monkeypatch.setenv("HOME", str(made))
    monkeypatch.delenv("SEPDASH_HOME")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    for name in (
        "cli.separate",
        "cli.transcribe",
        "cli.exchange",
        "cli.health",
        "reports.batch_plan",
    ):
        module = importlib.import_module(f"tui.{name}")
        monkeypatch.setattr(module, "subprocess", SimpleNamespace(run=in_process))
    monkeypatch.setattr("tui.cli.speak.answers_of", answers)
    monkeypatch.setattr("jobs.tuning.tune", quick_tuning)
    monkeypatch.setattr("jobs.lr_range.find_lr", quick_test)
    monkeypatch.setattr("jobs.clustering.cluster", quick_clusters)
    monkeypatch.setattr("jobs.probing.probe.PROGRAM", (sys.executable, "-P", str(PROBE)))
    return Person(template, made)


@pytest.mark.parametrize("command", EXAMPLES)
def test_every_example_runs(
    command: str, person: Person, sepdash: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = []
    executed = [line for line in EXAMPLES[command] if line not in NOT_RUN]
    for line in executed:
        person.settle(command)
        if command in ("sepdash features", "sepdash import"):
            # Imported when it is used; the modules of the others hold it from their import on.
            monkeypatch.setattr("engine.child_processes.answers_of", answers)
        monkeypatch.chdir(person.folder)
        for step in (*AFTER.get(line, ()), line):
            answer = sepdash(*words_of(step, person.folder), *MORE.get(step, MORE.get(command, ())))
            if answer.code:
                wrong.append(f"{step}: {answer.err or answer.out}")
    assert wrong == []


def test_what_is_not_executed_is_an_example_and_has_a_reason() -> None:
    lines = [line for lines in EXAMPLES.values() for line in lines]
    assert len(lines) > 115
    assert [line for line in (*NOT_RUN, *AFTER) if line not in lines] == []
    assert len(NOT_RUN) < 0.12 * len(lines)
    assert all(NOT_RUN.values())
