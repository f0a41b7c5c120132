"""A home of 2026-11-22 opens: its runs, figures, clips and checkpoints are what they were."""

from __future__ import annotations

import filecmp

import numpy as np
import pytest
import soundfile

from tests.compat.old_home import PLACE, RECORDED, assert_close, assert_same_config, in_old_words

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

RUNS = ("pair-baseline-s0", "pair-batch2x-s0", "half", "tones")
CLIPS = "runs/000001/samples/item-0000"
# Student's t of one degree of freedom, for 95 %. With two items, the bootstrap of that version gave the
# root of 2 times their distance; now it is this times their distance.
T_OF_TWO = 12.7062
TOO_FEW = "only 2 validation items; a verdict needs 10"


def test_nothing_of_the_machine_it_was_recorded_on_is_in_it():
    for path in sorted(RECORDED.rglob("*")):
        if path.suffix in {".sql", ".json", ".toml", ".jsonl", ".txt"}:
            text = path.read_text()
            assert "/work" not in text, path
            assert text.count("/home/") == text.count(PLACE), path


def test_the_list_of_runs_is_as_it_was(old, recorded):
    runs = {run["name"]: run for run in old.json("runs")}
    assert set(runs) == set(RUNS)
    for name in RUNS:
        now = in_old_words(runs[name])
        for key, value in recorded["runs"][name]["run"].items():
            if key != "message":
                assert_close(now[key], value, f"{name}: {key}")


@pytest.mark.parametrize("name", RUNS)
def test_a_run_shows_its_values_checkpoints_and_config(old, recorded, name):
    shown, then = old.json("show", name), recorded["runs"][name]
    for series, value in then["latest"].items():
        assert_close(shown["latest"][series], value, series)
    kept = {(item["kind"], item["updates"]): item for item in shown["checkpoints"]}
    assert set(kept) == {(item["kind"], item["updates"]) for item in then["checkpoints"]}
    for item in then["checkpoints"]:
        now = kept[item["kind"], item["updates"]]
        assert now["path"].endswith(item["folder"])
        assert_close(now["metrics"], item["metrics"], item["kind"])
    assert_same_config(shown["config"], then["config"], old.user)


def test_a_comparison_pairs_the_old_results_item_by_item(old, recorded):
    now, then = old.json("compare", "--experiment", "pair"), recorded["compare"]
    assert now["budget"] == then["budget"] == 640
    assert now["reference"] == "baseline"
    for run in now["runs"]:
        for metric, points in then["points"][run["variant"]].items():
            assert_close(run["points"][metric], points, metric)
    for metric, rows in then["tables"].items():
        for row, was in zip(now["tables"][metric], rows, strict=True):
            assert row["variant"] == was["variant"]
            assert_close(row["final"]["mean"], was["final"]["mean"], metric)
            if was["difference"] is not None:
                for key in ("mean", "num_items"):
                    assert_close(row["difference"][key], was["difference"][key], f"{metric}: {key}")
                widths = [it["high"] - it["low"] for it in (row["difference"], was["difference"])]
                assert widths[0] == pytest.approx(T_OF_TWO / 2**0.5 * widths[1], rel=1e-4)
                assert (row["verdict"], row["caveat"]) == ("undecided", TOO_FEW)


def test_clips_are_listed_and_exported_under_the_old_name_of_the_command(old, recorded, tmp_path):
    listed = old.json("samples", "pair-baseline-s0")
    assert len(listed) == len(recorded["samples"])
    for now, then in zip(listed, recorded["samples"], strict=True):
        assert {key: now[key] for key in then} == then
    old.sepdash("samples", "pair-baseline-s0", "-o", str(tmp_path / "out"))
    copies = sorted((tmp_path / "out").iterdir())
    originals = sorted((old.root / CLIPS).iterdir())
    assert len(copies) == len(originals) == 8
    for original in originals:
        (copy,) = [path for path in copies if path.name.endswith(original.name)]
        assert filecmp.cmp(copy, original, shallow=False)


def test_the_log_is_printed(old):
    lines = old.sepdash("logs", "half").splitlines()
    assert lines == (RECORDED / "home/runs/000003/log.txt").read_text().splitlines()


@pytest.mark.parametrize(
    ("model", "atol"),
    [
        ("runs/000001/checkpoints/best-si_sdr_full_ema", 1e-4),
        # The raw weights, which were measured best on excerpts: near the averaged ones of the clip.
        ("runs/000001/checkpoints/best-si_sdr", 6e-3),
        ("runs/000001", 6e-3),
        ("pair-baseline-s0", 6e-3),
    ],
)
def test_an_old_checkpoint_separates_as_it_did_at_its_evaluation(old, separated, model, atol):
    model = str(old.root / model) if "/" in model else model
    input_T, estimate_T = (
        soundfile.read(old.root / CLIPS / f"{name}.wav")[0]
        for name in ("input", "estimate-00000320")
    )
    separated_T = separated(old, model, old.root / CLIPS / "input.wav")
    np.testing.assert_allclose(separated_T, estimate_T, atol=atol)
    assert np.abs(input_T - estimate_T).max() > 10 * atol, "a network that copies would pass, too"


@pytest.mark.parametrize("model", ["tones", "runs/000004/checkpoints/best-wer"])
def test_an_old_checkpoint_transcribes_as_it_did(old, recorded, model):
    model = str(old.root / model) if "/" in model else model
    spoken = old.json("transcribe", model, "audio/tones/valid.jsonl", "--device", "cpu")
    assert [item["text"] for item in spoken["items"]] == recorded["transcribe"]["texts"]
    assert spoken["wer"] == recorded["transcribe"]["wer"] == 0.4
    assert_close(spoken["cer"], recorded["transcribe"]["cer"], "cer")


def test_a_run_that_was_stopped_half_way_goes_on_to_the_same_end(fresh, recorded):
    """Its twin was never stopped; another machine or torch rounds otherwise, so within 0.05 dB."""
    fresh.sepdash("resume", "half")
    fresh.sepdash("worker", "--drain", "--device", "cpu")
    shown, twin = fresh.json("show", "half"), recorded["runs"]["pair-baseline-s0"]
    assert shown["run"]["state"] == "finished", shown["run"]["message"]
    counters = in_old_words(shown["run"])
    for key in ("updates", "samples", "audio_seconds"):
        assert counters[key] == twin["run"][key]
    for metric in ("si_sdr", "si_sdr_ema", "val_loss", "si_sdr_full", "si_sdr_full_ema"):
        assert shown["latest"][metric] == pytest.approx(twin["latest"][metric], abs=0.05), metric
    assert shown["run"]["best"] == pytest.approx(twin["run"]["best"], abs=0.05)
    assert {item["kind"] for item in shown["checkpoints"]} == {
        "best-si_sdr", "best-si_sdr_full_ema", "last",
    }  # fmt: skip
    assert len(fresh.json("runs")) == len(RUNS)
