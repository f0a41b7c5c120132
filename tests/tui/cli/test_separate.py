"""`sepdash separate`: which checkpoint a run, a folder and `--checkpoint` mean, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


def save(folder: Path, metrics: dict[str, float]) -> None:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"metrics": metrics}))


def test_separate_refuses_what_has_no_checkpoint(sepdash, lab, tmp_path: Path) -> None:
    lab.run("one")
    sound = tmp_path / "a.wav"
    sound.write_bytes(b"")
    out = str(tmp_path / "out")
    for model, message in [
        ("one", "run one has no checkpoint yet (state: queued)"),
        ("onee", "no run 'onee', did you mean 'one'?"),
        (f"{tmp_path}/none", "is not a checkpoint folder: it has no manifest.json"),
    ]:
        answer = sepdash("separate", model, str(sound), "-o", out)
        assert (answer.code, message in answer.err) == (2, True)
    assert "does not exist" in sepdash("separate", "one", "missing.wav", "-o", out).err
    assert not Path(out).exists()


@pytest.mark.parametrize(
    ("levels", "chosen"),
    [
        ({"best-si_sdr": {"si_sdr": 9.0}, "best-si_sdr_ema": {"si_sdr_ema": 8.0}}, "best-si_sdr"),
        (
            {"best-si_sdr": {"si_sdr": 7.0}, "best-si_sdr_ema": {"si_sdr_ema": 8.0}},
            "best-si_sdr_ema",
        ),
        (
            {"best-wer": {"wer": 0.2}, "best-wer_ema": {"wer_ema": 0.1}, "last-000001": {}},
            "best-wer_ema",
        ),
        ({"best-wer": {"wer": 0.1}, "best-wer_ema": {"wer_ema": 0.2}}, "best-wer"),
        ({"last-000001": {}, "best-val_loss": {"val_loss": 1.0}}, "best-val_loss"),
        ({"last-000001": {}}, "last-000001"),
    ],
)
def test_separate_takes_the_checkpoint_with_the_best_level(lab, levels, chosen: str) -> None:
    from tui.cli.checkpoints import checkpoint_of_run

    saved = lab.home.run_folder(lab.run("one")) / "checkpoints"
    for kind, metrics in levels.items():
        save(saved / kind, metrics)
    assert checkpoint_of_run(lab.home, "one", kind=None) == saved / chosen


LEVELS = {"si_sdr": 12.4, "si_sdr_ema": 11.9, "val_loss_ema": 0.1}
KINDS = ("best-val_loss_ema", "best-si_sdr_ema", "best-si_sdr", "last-000010", "last-000002")


@pytest.mark.parametrize(
    ("gone", "damaged", "kind", "chosen"),
    [
        ((), (), None, "best-si_sdr"),
        (("best-si_sdr",), (), None, "best-si_sdr_ema"),
        (KINDS[:3], (), None, "last-000010"),
        (KINDS[:4], (), None, "last-000002"),
        # A damaged one still counts where nothing scores better; it is refused when it is read.
        (("best-si_sdr_ema",), ("best-si_sdr",), None, "best-si_sdr"),
        ((), ("best-val_loss_ema", "last-000010"), None, "best-si_sdr"),
        ((), (), "last", "last-000010"),
        ((), (), "best-val_loss_ema", "best-val_loss_ema"),
    ],
)
def test_a_run_and_its_folders_mean_the_same_checkpoint(lab, gone, damaged, kind, chosen) -> None:
    from engine.checkpoints.find import find_checkpoint
    from engine.checkpoints.referenced import checkpoint_of
    from tui.cli.checkpoints import locate_checkpoint

    run = lab.run("one", "finished", updates=2)
    folder = lab.home.run_folder(run) / "checkpoints"
    for name in KINDS:
        save(folder / name, LEVELS)
        # The store remembers all of them; what is on disk counts.
        lab.writer.add_checkpoint(
            run, name, path=str(folder / name), updates=2, metrics=LEVELS, size_bytes=1
        )
    for name in gone:
        (folder / name / "manifest.json").unlink()
    for name in damaged:
        (folder / name / "manifest.json").write_text("{")
    for model in ("one", str(folder.parent), str(folder)):
        assert locate_checkpoint(lab.home, model, kind=kind) == folder / chosen
    if kind is None:
        assert find_checkpoint(folder.parent) == find_checkpoint(folder) == folder / chosen
    which = "best" if kind is None else kind.removeprefix("best-")
    assert checkpoint_of(folder.parent, which) == folder / chosen


def test_a_checkpoint_that_a_run_lacks_is_refused_with_those_it_has(sepdash, lab, tmp_path) -> None:
    run = lab.run("one", "finished", updates=2)
    folder = lab.home.run_folder(run)
    save(folder / "checkpoints" / "last-000002", {})
    sound = tmp_path / "a.wav"
    sound.write_bytes(b"")
    for model, title in (("one", "run one"), (str(folder), str(folder))):
        answer = sepdash("separate", model, str(sound), "-o", "out", "--checkpoint", "best-sdr")
        assert answer.code == 2
        assert f"{title} has no checkpoint 'best-sdr'; available: last-000002" in answer.err


def test_separate_passes_the_message_of_its_child_on(sepdash, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "manifest.json").write_text("{")
    sound = tmp_path / "a.wav"
    sound.write_bytes(b"no sound")
    answer = sepdash("separate", str(folder), str(sound), "-o", str(tmp_path / "out"))
    assert answer.code == 2
    assert answer.err.startswith("sepdash: ")
    assert "Traceback" not in answer.err
