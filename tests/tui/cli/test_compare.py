"""`sepdash compare` and what it writes."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from jobs.home import Home
from jobs.store.records import EvaluationRecord
from jobs.store.writer import StoreWriter

HARD = np.random.default_rng(0).normal(10, 5, 30)


@pytest.fixture
def experiment() -> None:
    """Four runs: `base` with two seeds, `twice` 1 dB above it, and one that failed."""
    with StoreWriter(Home.locate(None).create().store) as store:
        for name, variant, seed, level in (
            ("base-0", "base", 0, 0.0), ("base-1", "base", 1, 0.1),
            ("twice-0", "twice", 0, 1.0), ("broken", "broken", 0, -9.0),
        ):  # fmt: skip
            run_id = store.insert_run(
                {
                    "name": name, "config": "{}", "fingerprint": "", "seed": seed,
                    "experiment": "batch", "variant": variant,
                }
            )  # fmt: skip
            for updates in (10, 20):
                values = (HARD + level + updates / 100).tolist()
                store.add_points(
                    run_id, steps=[updates], series={"si_sdr": [np.mean(values)]}, units={}
                )
                store.add_results(
                    EvaluationRecord(run_id, updates, train_seconds=1.5 * updates, items_key="key"),
                    {"si_sdr": values},
                )
            store.update_run(run_id, updates=20, items=80, train_seconds=30.0)
            store.move(run_id, "failed" if name == "broken" else "finished", ("queued",))


pytestmark = pytest.mark.usefixtures("experiment")


def test_a_clock_may_be_named_by_its_old_name(sepdash):
    old, new = (
        sepdash("compare", "--experiment", "batch", "--by", by) for by in ("samples", "items")
    )
    assert (old.code, old.out) == (0, new.out)
    answer = sepdash("compare", "base-0", "--by", "sample")
    assert answer.code == 2
    assert "'updates', 'items', 'epochs', 'wall_clock'" in answer.err


def test_the_tables_say_who_won(sepdash):
    answer = sepdash("compare", "--experiment", "batch")

    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[0] == (
        "3 runs compared up to 80 items; differences from base, with 95 % intervals, "
        "at the best evaluation"
    )
    assert lines[2] == "si_sdr in dB"
    assert lines[3].split() == (
        ["VARIANT", "RUNS", "BEST", "AT", "FINAL", "DIFFERENCE", "INTERVAL", "VERDICT"]
    )
    middle = HARD.mean() + 0.25
    assert lines[4].split()[:6] == ["base", "2", f"{middle:.3f}", "±", "0.071", "80"]
    assert lines[4].endswith("reference")
    assert "+0.950" in lines[5]
    assert lines[5].endswith("better")
    assert "by si_sdr  twice > base" in lines
    assert "broken" not in answer.out
    assert "skipped failed runs: broken; " in answer.err
    assert answer.out.count("note: ") == 1


def test_named_runs_and_another_clock(sepdash):
    answer = sepdash("compare", "twice-0", "base-0", "base-0", "--by", "wall_clock")

    assert answer.out.startswith(
        "2 runs compared up to 30s of training time; differences from twice,"
    )
    assert answer.out.count("worse") == 1


def test_json_holds_everything(sepdash):
    found = json.loads(sepdash("compare", "--experiment", "batch", "--json").out)

    assert found["budget"] == 80
    assert [row["variant"] for row in found["tables"]["si_sdr"]] == ["base", "twice"]
    assert found["tables"]["si_sdr"][1]["difference"]["mean"] == pytest.approx(0.95)
    assert found["orderings"] == [
        {"metric": "si_sdr", "variants": ["twice", "base"], "apart": [True]}
    ]
    assert [point["at"] for point in found["runs"][0]["points"]["si_sdr"]] == [40, 80]


def test_csv_has_a_row_for_each_variant_and_unrounded_numbers(sepdash, tmp_path):
    path = tmp_path / "table.csv"
    assert sepdash("compare", "--experiment", "batch", "--csv", str(path)).code == 0
    to_stdout = sepdash("compare", "--experiment", "batch", "--csv", "-").out

    assert path.read_text() == to_stdout
    rows = list(csv.DictReader(io.StringIO(to_stdout)))
    assert [(row["metric"], row["variant"], row["runs"]) for row in rows] == [
        ("si_sdr", "base", "2"), ("si_sdr", "twice", "1"),
    ]  # fmt: skip
    assert float(rows[1]["best"]) == pytest.approx(HARD.mean() + 1.2)
    assert float(rows[1]["low"]) <= float(rows[1]["difference"]) <= float(rows[1]["high"])
    assert rows[0]["difference"] == ""


def test_markdown_is_a_table(sepdash):
    out = sepdash("compare", "--experiment", "batch", "--markdown", "-").out

    lines = out.splitlines()
    start = lines.index("| VARIANT | RUNS | BEST | AT | FINAL | DIFFERENCE | INTERVAL | VERDICT |")
    table = lines[start : start + 4]
    assert {line.count("|") for line in table} == {9}
    assert "- by si_sdr: twice > base" in lines


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_plot_is_drawn(sepdash, tmp_path, suffix):
    path = tmp_path / f"curves{suffix}"

    assert sepdash("compare", "--experiment", "batch", "--plot", str(path)).code == 0

    if suffix == ".png":
        assert path.read_bytes().startswith(b"\x89PNG")
    else:
        text = path.read_text()
        ET.fromstring(text)
        for word in ("base", "twice", "items"):
            assert f"<!-- {word} -->" in text


def test_without_matplotlib_a_plot_is_refused_before_anything_is_done(
    sepdash, monkeypatch, tmp_path
):
    find = importlib.util.find_spec
    monkeypatch.setattr("tui.cli.plots.find_spec", lambda n: None if n == "matplotlib" else find(n))

    answer = sepdash("compare", "base-0", "--plot", str(tmp_path / "x.svg"))

    assert answer.code == 2
    assert (
        "--plot requires matplotlib, which is not installed: pip install 'sepdash[plots]'"
        in answer.err
    )
    assert answer.out == ""
    assert list(tmp_path.glob("x*")) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give either the runs to compare or --experiment NAME"),
        (
            ["base-0", "--experiment", "batch"],
            "give either the runs to compare or --experiment NAME",
        ),
        (["--experiment", "bach"], "no runs of experiment 'bach', did you mean 'batch'?"),
        (["bas-0"], "no run 'bas-0', did you mean 'base-0'?"),
        (["base-0", "--metric", "si_sdr", "--metric", "pesq"], "--metric pesq: none of these runs"),
        (["base-0", "--metric", "pesq"], "nothing to compare: no evaluation of pesq in base-0"),
        (
            ["base-0", "--plot", "x.gif"],
            "--plot x.gif: expected a file name ending in .svg, .png, .pdf",
        ),
        (["base-0", "--csv", "/nowhere/x.csv"], "/nowhere/x.csv can't be written: No such file"),
    ],
)
def test_mistakes_have_one_clear_message(sepdash, words, message):
    answer = sepdash("compare", *words)

    assert answer.code == 2
    assert message in answer.err
    assert "Traceback" not in answer.err


def test_error_rates_are_in_percent(sepdash):
    with StoreWriter(Home.locate(None).create().store) as store:
        for name, wer in (("near", 0.05), ("far", 0.25)):
            run_id = store.insert_run(
                {"name": name, "config": "{}", "fingerprint": "", "seed": 0, "metric": "wer",
                 "experiment": "asr", "variant": name}
            )  # fmt: skip
            values = np.full(len(HARD), wer)
            store.add_points(run_id, steps=[10], series={"wer": [wer]}, units={})
            record = EvaluationRecord(run_id, 10, train_seconds=1.5, items_key="key")
            store.add_results(record, {"wer": values.tolist()})
            store.update_run(run_id, updates=10, items=40, train_seconds=30.0)
            store.note_best(run_id, {"best": wer, "best_ema": wer / 2}, lower=True)
    answer = sepdash("compare", "near", "far", "--csv", "-")
    assert [row.split(",")[:4] for row in answer.out.splitlines()[1:]] == [
        ["wer", "near", "1", "0.05"], ["wer", "far", "1", "0.25"],
    ]  # fmt: skip
    lines = sepdash("compare", "near", "far").out.splitlines()
    assert lines[2] == "wer in %, lower is better"
    assert lines[4].split() == ["near", "1", "5.000", "40", "5.000", "reference"]
    assert lines[5].split()[:6] == ["far", "1", "25.000", "40", "25.000", "+20.000"]
    assert lines[5].split()[-1] == "worse"
    markdown = sepdash("compare", "near", "far", "--markdown", "-").out
    assert "| far | 1 | 25.000 | 40 | 25.000 | +20.000 |" in markdown

    lines = sepdash("runs", "--state", "queued").out.splitlines()
    assert lines[0].split()[5:8] == ["WER", "EMA", "GAIN"]
    assert lines[1].split()[5:8] == ["5.00%", "2.50%", "–"]
    assert sepdash("runs").out.splitlines()[0].split()[5] == "BEST"
    shown = sepdash("show", "far").out
    assert "best WER     25.0%, EMA 12.5%\n" in shown
    assert ["wer", "25.0%"] in [line.split() for line in shown.splitlines()]
