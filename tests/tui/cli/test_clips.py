"""`sepdash clips`: listing and exporting."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.home import Home
from jobs.store.records import ClipRecord
from jobs.store.writer import StoreWriter


@pytest.fixture
def folder() -> Path:
    """The folder of a run `tasks/one` with clips of one item at two evaluations."""
    home = Home.locate(None).create()
    with StoreWriter(home.store) as store:
        for name, count in (("tasks/one", 1), ("quiet", 0)):
            config = json.dumps({"validation": {"clips": count}})
            store.insert_run({"name": name, "config": config, "fingerprint": "", "seed": 0})
        records = [
            ClipRecord(1, updates, item="0", kind=kind, path=f"clips/item-0000/{name}.wav", spectrogram=f"{name}.png")
            for updates, kind, name in (
                (0, "input", "input"), (10, "estimate", "estimate-10"), (20, "estimate", "estimate-20"),
            )
        ]  # fmt: skip
        store.add_clips(records)
    for record in records:
        for path in (record.path, record.spectrogram):
            file = home.run_folder(1) / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(path)
    return home.run_folder(1)


def test_what_a_judge_heard_is_shown_beside_the_text(sepdash, folder):
    with StoreWriter(Home.locate(None).store) as store:
        store.add_clips(
            [
                ClipRecord(2, updates, item=item, kind=kind, path=f"{kind}-{item}-{updates}.wav", spectrogram="", text=text)
                for updates, item, kind, text in (
                    (0, "0", "input", "five two"), (0, "0", "target", None), (10, "0", "estimate", ""),
                    (20, "0", "estimate", "five \x1b[31mtwo"), (20, "1", "estimate", "one"),
                )
            ]
        )  # fmt: skip
    lines = [line.split("  ") for line in sepdash("clips", "quiet").out.splitlines()]
    rows = [[part.strip() for part in line if part.strip()][:-1] for line in lines]
    assert rows == [
        ["UPDATES", "ITEM", "KIND", "TEXT", "HEARD"], ["0", "input", "five two"], ["0", "target", "five two"],
        ["10", "0", "estimate", "five two", "(nothing)"], ["20", "0", "estimate", "five two", "five two"],
        ["20", "1", "estimate", "one"],
    ]  # fmt: skip
    found = json.loads(sepdash("clips", "quiet", "--json").out)
    assert [clip["text"] for clip in found] == ["five two", None, "", "five \x1b[31mtwo", "one"]
    shown = sepdash("show", "quiet").out
    assert "what the judge heard in the clips of update 20" in shown
    assert "(nothing)" not in shown
    assert "what the judge heard" not in sepdash("show", "tasks/one").out


@pytest.mark.parametrize(
    "path", ["../../../secret.wav", "/etc/hostname", "clips/../../../secret.wav", "link/x", "a\0b"]
)
def test_files_outside_the_run_are_not_copied(sepdash, folder, tmp_path, path):
    (folder.parent.parent / "secret.wav").write_text("secret")
    (folder / "link").symlink_to(folder.parent.parent)
    (folder.parent.parent / "x").write_text("secret")
    with StoreWriter(Home.locate(None).store) as store:
        store.add_clips([ClipRecord(1, 30, item="9", kind="estimate", path=path, spectrogram="")])
    answer = sepdash("clips", "tasks/one", "-o", str(tmp_path / "out"))
    assert answer.code == 2
    assert "which is outside its folder" in answer.err
    assert not (tmp_path / "out").exists()


def test_clips_are_listed_with_their_files(sepdash, folder):
    lines = sepdash("clips", "tasks/one").out.splitlines()

    assert lines[0].split() == ["UPDATES", "ITEM", "KIND", "PATH"]
    path = folder / "clips" / "item-0000"
    assert [line.split() for line in lines[1:]] == [
        ["0", "input", str(path / "input.wav")],
        ["10", "0", "estimate", str(path / "estimate-10.wav")],
        ["20", "0", "estimate", str(path / "estimate-20.wav")],
    ]


def test_the_old_verb_and_the_files_of_an_old_run_still_work(sepdash, folder):
    old = folder / "samples" / "item-0000" / "input.wav"
    with StoreWriter(Home.locate(None).store) as store:
        store.insert_run({"name": "old", "config": "{}", "fingerprint": "", "seed": 0})
        store.add_clips(
            [
                ClipRecord(
                    3, 0, item="0", kind="input", path="samples/item-0000/input.wav", spectrogram=""
                )
            ]
        )

    assert sepdash("samples", "old").out == sepdash("clips", "old").out
    assert sepdash("samples", "old").out.split()[-1] == str(old).replace("000001", "000003")
    assert "samples" not in sepdash("--help").out


def test_json_and_the_newest(sepdash, folder):
    found = json.loads(sepdash("clips", "1", "--newest", "--json").out)

    assert [(item["updates"], item["kind"]) for item in found] == [(0, "input"), (20, "estimate")]


def test_export_copies_audio_and_spectrograms_under_the_name_of_the_run(sepdash, folder, tmp_path):
    out = tmp_path / "new" / "folder"

    answer = sepdash("clips", "tasks/one", "--newest", "-o", str(out))

    assert answer.code == 0
    assert sorted(path.name for path in out.glob("*.wav")) == [
        "tasks-one.item-0000.estimate-20.wav", "tasks-one.item-0000.input.wav",
    ]  # fmt: skip
    assert len(list(out.glob("*.png"))) == 2
    assert f"copied 4 files to {out}" in answer.err


def test_what_is_gone_is_named_and_nothing_is_copied(sepdash, folder, tmp_path):
    (folder / "clips" / "item-0000" / "estimate-10.wav").unlink()

    answer = sepdash("clips", "1", "-o", str(tmp_path / "out"))

    assert answer.code == 2
    assert "files missing on disk, nothing copied: " in answer.err
    assert "estimate-10.wav" in answer.err
    assert not (tmp_path / "out").exists()


def test_no_clips_say_why(sepdash, folder):
    answer = sepdash("clips", "quiet")

    assert (answer.code, answer.out) == (0, "")
    assert answer.err.strip() == (
        "clips of quiet: none: set validation.clips before the run is queued"
    )
    assert sepdash("clips", "quiet", "--json").out.strip() == "[]"
