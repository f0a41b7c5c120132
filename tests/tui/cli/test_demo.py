"""The demo without its training: what it writes, queues, refuses and reports."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobs.home import Home
from jobs.machine.processes import process_token
from jobs.store.reader import StoreReader
from jobs.store.writer import StoreWriter
from tui.cli.demo import prepare, report


@pytest.fixture(autouse=True)
def _few_tracks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write little audio: how much makes no difference here."""
    monkeypatch.setattr("tui.cli.demo._TRACKS", 1)
    monkeypatch.setattr("tui.cli.demo._VALID_TRACKS", 1)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.flac"))}


@pytest.fixture
def demo_home(home: Home) -> Home:
    return Home(home.root / "demo")


def test_prepare_writes_audio_and_queues_two_matched_runs(demo_home: Home) -> None:
    ids = prepare(demo_home, seed=3, keep=False)
    with StoreReader(demo_home.store) as reader:
        runs = [reader.run(run_id) for run_id in ids]
        first, second = (reader.config(run_id) for run_id in ids)
    assert [run.name for run in runs] == ["baseline-1", "batch2x-1"]
    assert [run.seed for run in runs] == [3, 3]
    assert runs[0].total_updates == 2 * runs[1].total_updates
    assert second["batch"]["items"] == 2 * first["batch"]["items"]
    assert second["data"] == first["data"]
    assert [track.name for track in Path(first["data"]["train"]).iterdir()] == ["track-000"]


def test_the_dataset_depends_on_the_seed_alone(tmp_path: Path) -> None:
    written = []
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        home = Home(tmp_path / name)
        prepare(home, seed=seed, keep=False)
        written.append(files(home.root / "data" / f"seed-{seed}"))
    assert written[0] == written[1]
    assert written[0] != written[2]


def test_another_demo_starts_afresh_unless_told_to_keep(demo_home: Home) -> None:
    prepare(demo_home, seed=0, keep=False)
    (demo_home.root / "notes.txt").write_text("mine")
    assert prepare(demo_home, seed=0, keep=True) == [3, 4]
    assert prepare(demo_home, seed=0, keep=False) == [1, 2]
    assert (demo_home.root / "notes.txt").read_text() == "mine"


def test_a_second_demo_beside_a_running_one_is_refused(
    sepdash, home: Home, demo_home: Home
) -> None:
    demo_home.create()
    with StoreWriter(demo_home.store) as store:
        store.add_worker("cpu", pid=os.getpid(), token=process_token(os.getpid()))
    answer = sepdash("demo", "--headless", "--home", str(home.root))
    assert answer.code == 2
    assert f"a demo is already running (process {os.getpid()})" in answer.err


def test_report_compares_and_warns_of_one_seed(lab, capsys: pytest.CaptureFixture[str]) -> None:
    ids = [
        lab.run("baseline-1", "finished", updates=1000, level=9.0),
        lab.run("batch2x-1", "finished", updates=500, level=8.0),
    ]
    _give_configs(lab, ids)
    assert report(lab.home, ids) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[:4] == ["baseline-1", "finished", "4", "1000"]
    assert lines[5].startswith("2 runs compared up to 8000 items")
    assert any(line.startswith("batch2x-1") and "not comparable" in line for line in lines)
    assert lines[-1].endswith("compare baseline-1 batch2x-1")


def test_report_of_an_unfinished_demo_says_how_to_go_on(lab, capsys) -> None:
    ids = [lab.run("baseline-1", "finished", updates=1000), lab.run("batch2x-1")]
    _give_configs(lab, ids)
    assert report(lab.home, ids) == 1
    assert f"sepdash --home {lab.home.root} worker --drain" in capsys.readouterr().err


def _give_configs(lab, ids: list[int]) -> None:
    for run_id, items in zip(ids, (4, 8), strict=True):
        lab.writer.update_run(run_id, config=f'{{"batch": {{"items": {items}}}}}')
