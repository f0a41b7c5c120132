"""`sepdash compare` and what it writes."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import xml.etree.ElementTree as ET

import pytest

from jobs.home import Home
from tests.tui.conftest import Lab
from tests.tui.experiments import BATCH, HARD, ONE_SEED, add_experiment
from tests.tui.objectives import add_hubert
from tui.reports.comparison import EXPLORATORY

OLD_COLUMNS = "metric,variant,runs,best,best_deviation,best_at,final,final_deviation,difference,low,high,items,verdict"


@pytest.fixture(autouse=True)
def experiments(monkeypatch: pytest.MonkeyPatch) -> Home:
    """`batch` with three seeds, `alone` with one, and a run of `batch` that failed."""
    monkeypatch.setenv("COLUMNS", "80")
    home = Home.locate(None)
    add_experiment(home, "batch", BATCH, loss="l1")
    add_experiment(home, "alone", ONE_SEED)
    add_experiment(home, "batch", {"broken": {0: -9.0}}, state="failed")
    return home


def rows_of(out: str) -> dict[str, list[dict[str, str]]]:
    tables: dict[str, list[dict[str, str]]] = {}
    for row in csv.DictReader(io.StringIO(out)):
        tables.setdefault(row["metric"], []).append(row)
    return tables


def test_the_table_that_decides_comes_first_with_its_margin(sepdash):
    answer = sepdash("compare", "--experiment", "batch")

    assert answer.code == 0, answer.err
    blocks = [block.splitlines() for block in answer.out.split("\n\n")]
    assert " ".join(blocks[0]) == (
        "12 runs compared up to 80 items, at the best evaluation of each. Differences are relative to base, "
        "with 95 % intervals; ± is the standard deviation of runs."
    )
    assert " ".join(blocks[1][:2]) == (
        "si_sdr decides (dB, higher is better, 30 validation items); differences below 0.1 dB don't count"
    )
    assert blocks[1][2].split() == [
        "VARIANT", "SEEDS", "BEST", "AT", "DIFFERENCE", "INTERVAL", "VERDICT",
    ]  # fmt: skip
    middle = HARD.mean() + 0.22
    assert blocks[1][3].split() == ["base", "3", f"{middle:.2f}", "±", "0.02", "80", "reference"]
    assert blocks[1][4].startswith("twice        3")
    assert "+1.00" in blocks[1][4]
    assert [line.split()[-1] for line in blocks[1][4:7]] == ["better", "equivalent", "undecided"]
    assert blocks[2][0].startswith("Exploratory:")
    assert blocks[3][0].startswith("val_loss (lower is better, 30 validation items)")
    assert "broken" not in answer.out
    assert "skipped failed runs: batch-broken-0; " in answer.err


def test_an_undecided_row_says_what_would_decide_it_and_what_that_costs(sepdash):
    """A run of this fixture took two hours."""
    out = " ".join(sepdash("compare", "--experiment", "batch").out.split())
    (more,) = [row for row in rows_of(csv_of(sepdash))["si_sdr"] if row["variant"] == "noisy"]

    assert int(more["decider_runs"]) == 2 * (int(more["decider_seeds"]) - 3)
    assert float(more["decider_gpu_hours"]) == pytest.approx(2 * int(more["decider_runs"]))
    assert (
        f"noisy: about {more['decider_seeds']} seeds a side would probably decide it: "
        f"{more['decider_runs']} more runs, {float(more['decider_gpu_hours']):.0f} GPU hours"
    ) in out


def csv_of(sepdash, *words: str) -> str:
    return sepdash("compare", "--experiment", "batch", "--csv", "-", *words).out


def test_the_order_of_variants_is_about_neighbours(sepdash):
    out = sepdash("compare", "--experiment", "batch").out
    assert "order: twice ≈ noisy ≈ base ≈ same" in out
    assert "(neighbours: > differ, ≈ not shown to differ)" in " ".join(out.split())


@pytest.mark.parametrize("experiment", ["batch", "alone"])
@pytest.mark.parametrize("columns", [80, 120])
def test_the_tables_fit_the_terminal(sepdash, monkeypatch, experiment, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = sepdash("compare", "--experiment", experiment).out.splitlines()
    assert max(map(len, lines)) <= columns
    headers = [line for line in lines if line.startswith("VARIANT")]
    assert {"FINAL" in line for line in headers} == {columns == 120 or experiment == "alone"}


def test_a_remark_is_made_once(sepdash):
    lines = sepdash("compare", "--experiment", "batch").out.splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("  ") and ":" in line] == [
        "  noisy", "  order",
    ]  # fmt: skip
    markdown = sepdash("compare", "--experiment", "batch", "--markdown", "-").out
    assert markdown.count("- order: ") == 2


def test_long_names_stand_on_lines_of_their_own(sepdash, experiments, monkeypatch):
    names = [f"{word}-and-a-name-that-takes-the-whole-width" for word in ("first", "second")]
    add_experiment(experiments, "long", {names[0]: BATCH["base"], names[1]: BATCH["twice"]})
    monkeypatch.setenv("COLUMNS", "60")
    lines = sepdash("compare", "--experiment", "long").out.splitlines()
    at = lines.index(names[1])
    assert lines[at + 1].split()[0] == "3"
    assert lines[at + 1].endswith("better")
    assert max(map(len, lines)) <= 60


def test_one_seed_a_side_gives_no_verdict_about_variants(sepdash):
    out = sepdash("compare", "--experiment", "alone").out

    verdicts = [line.split("  ")[-1] for line in out.splitlines() if line.startswith(tuple(BATCH))]
    assert verdicts == ["reference", "models differ", "models equivalent", "models differ"]
    assert "order of these trained models: twice > noisy > same ≈ base" in out
    assert "another seed may reverse the order" in " ".join(out.split())
    assert "train 3 seeds of each variant (seeds = [0, 1, 2] in an" in " ".join(out.split())


def test_more_seeds_may_be_asked_for(sepdash):
    answer = sepdash("compare", "--experiment", "batch", "--min-seeds", "4")
    assert "models differ" in answer.out
    assert "fewer than 4 seeds a side" in answer.out


def test_named_runs_and_another_clock(sepdash):
    words = ("alone-twice-0", "alone-base-0", "alone-base-0", "--by", "wall_clock", "--at", "final")
    answer = sepdash("compare", *words)

    assert answer.out.startswith("2 runs compared up to 2h00m of training time, at the last")
    assert "Differences are relative to twice, with 95 % intervals." in " ".join(answer.out.split())
    assert answer.out.count("models differ") == 1


def test_a_clock_may_be_named_by_its_old_name(sepdash):
    old, new = (
        sepdash("compare", "--experiment", "batch", "--by", by) for by in ("samples", "items")
    )
    assert (old.code, old.out) == (0, new.out)
    answer = sepdash("compare", "alone-base-0", "--by", "sample")
    assert answer.code == 2
    assert "'updates', 'items', 'epochs', 'wall_clock'" in answer.err


def test_json_holds_everything_and_the_values_of_each_run(sepdash):
    found = json.loads(sepdash("compare", "--experiment", "batch", "--json").out)

    assert (found["budget"], found["headline"], found["margins"]["si_sdr"]) == (80, "si_sdr", 0.1)
    base, twice, *_ = found["tables"]["si_sdr"]
    assert twice["difference"]["mean"] == pytest.approx(0.9967, abs=1e-3)
    assert (twice["verdict"], twice["difference"]["of"]) == ("better", "recipes")
    assert [(run["run"], run["seed"]) for run in base["runs"]] == [
        (f"batch-base-{seed}", seed) for seed in range(3)
    ]
    for run, level in zip(twice["runs"], BATCH["twice"].values(), strict=True):
        assert run["best"] == run["final"] == pytest.approx(HARD.mean() + level + 0.2)
    assert [point["at"] for point in found["runs"][0]["points"]["si_sdr"]] == [40, 80]
    assert "config" not in found["runs"][0]


def test_csv_has_the_columns_of_before_and_unrounded_numbers(sepdash, tmp_path):
    path = tmp_path / "table.csv"
    assert sepdash("compare", "--experiment", "batch", "--csv", str(path)).code == 0
    out = csv_of(sepdash)

    assert path.read_text() == out
    assert out.startswith(f"{OLD_COLUMNS},role,of,seeds,margin,")
    tables = rows_of(out)
    assert [(r["variant"], r["runs"], r["seeds"]) for r in tables["si_sdr"]] == [
        (variant, "3", "3") for variant in BATCH
    ]
    base, twice, *_ = tables["si_sdr"]
    assert float(twice["best"]) == pytest.approx(HARD.mean() + 1.0166 + 0.2, abs=1e-3)
    assert float(twice["low"]) <= float(twice["difference"]) <= float(twice["high"])
    assert (twice["role"], twice["of"], twice["margin"]) == ("headline", "recipes", "0.1")
    assert (base["difference"], base["verdict"], base["alpha"]) == ("", "", "")
    assert {row["role"] for row in tables["val_loss"]} == {"exploratory"}


def test_markdown_is_a_table(sepdash):
    lines = sepdash("compare", "--experiment", "batch", "--markdown", "-").out.splitlines()

    header = "| VARIANT | SEEDS | BEST | AT | FINAL | DIFFERENCE | INTERVAL | VERDICT |"
    start = lines.index(header)
    assert {line.count("|") for line in lines[start : start + 6]} == {9}
    assert lines[start + 3].endswith("| better |")
    assert lines.index(header) < lines.index(EXPLORATORY)  # fmt: skip


@pytest.mark.parametrize("form", ["text", "markdown", "csv", "json", "plot"])
def test_every_output_carries_what_limits_the_verdicts(sepdash, tmp_path, form):
    path = tmp_path / "it.svg"
    words = {
        "text": (), "json": ("--json",), "markdown": ("--markdown", "-"), "csv": ("--csv", "-"),
        "plot": ("--plot", str(path)),
    }[form]  # fmt: skip
    answer = sepdash("compare", "--experiment", "alone", *words)
    text = " ".join((path.read_text() if form == "plot" else answer.out).split())
    text = text.replace("--> ", "").replace("<!-- ", "")

    assert "with other seeds, the order would be reversed in about" in text
    for words in ("fewer than 2 seeds a side", "several variants: intervals are wider"):
        assert words in text, words
    # Every item of this fixture has the same gap, so the interval has no width at all.
    assert "models differ" in text


def test_plots_show_each_run_as_a_point_and_differences_with_their_intervals(
    sepdash, monkeypatch, tmp_path
):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path: drawn.append(self))
    answer = sepdash("compare", "--experiment", "batch", "--plot", str(tmp_path / "x.png"), "--csv", "-")  # fmt: skip

    (figure,) = drawn
    curves, seeds, differences, other = figure.axes[:4]
    assert len([line for line in curves.lines if len(line.get_xdata()) == 2]) == 12 + 1
    points = [line for line in seeds.lines if line.get_marker() == "o"]
    for line, levels in zip(points, BATCH.values(), strict=True):
        shown = [float(value) for value in line.get_ydata()]
        assert shown == pytest.approx([HARD.mean() + level + 0.2 for level in levels.values()])
        assert len(set(line.get_xdata())) == 3
    rows = [row for row in rows_of(answer.out)["si_sdr"] if row["difference"]]
    bars = [line for line in differences.lines[1:] if len(line.get_xdata()) == 2]
    assert [tuple(bar.get_xdata()) for bar in bars] == [
        pytest.approx((float(row["low"]), float(row["high"]))) for row in rows
    ]
    assert [text.get_text() for text in differences.texts] == ["better", "equivalent", "undecided"]
    assert other.get_title() == "val_loss (exploratory)"


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


def test_a_plot_of_many_variants_with_odd_names_is_drawn(sepdash, tmp_path, recwarn):
    """Formulas, names that matplotlib would hide, letters its font lacks, and more variants than it has colours."""
    names = ["$x_{$", "_hidden", "\u65e5\u672c", *(f"v{number}" for number in range(10))]
    levels = {name: {seed: 0.1 * seed for seed in range(2)} for name in names}
    add_experiment(Home.locate(None), "odd", levels)
    path = tmp_path / "odd.svg"

    answer = sepdash("compare", "--experiment", "odd", "--plot", str(path))

    assert answer.code == 0, answer.err
    assert not [str(warning.message) for warning in recwarn]
    text = path.read_text()
    assert "<!--  _hidden -->" in text
    assert "<!-- difference from $x_{$, 95 % intervals -->" in text


def test_without_matplotlib_a_plot_is_refused_before_anything_is_done(
    sepdash, monkeypatch, tmp_path
):
    find = importlib.util.find_spec
    monkeypatch.setattr("tui.cli.plots.find_spec", lambda n: None if n == "matplotlib" else find(n))

    answer = sepdash("compare", "alone-base-0", "--plot", str(tmp_path / "x.svg"))

    assert answer.code == 2
    assert (
        "--plot requires matplotlib, which is not installed: pip install 'sepdash[plots]'"
        in answer.err
    )
    assert answer.out == ""
    assert list(tmp_path.glob("x*")) == []


ONE = "alone-base-0"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give either the runs to compare or --experiment NAME"),
        ([ONE, "--experiment", "batch"], "give either the runs to compare or --experiment NAME"),
        (["--experiment", "bach"], "no runs of experiment 'bach', did you mean 'batch'?"),
        (["alone-bas-0"], "no run 'alone-bas-0', did you mean 'alone-base-0'?"),
        (
            [ONE, "--metric", "si_sdr", "--metric", "pesq"],
            "--metric pesq: none of these runs was evaluated with it; they have si_sdr",
        ),
        (
            [ONE, "--plot", "x.gif"],
            "--plot x.gif: expected a file name ending in .svg, .png, .pdf",
        ),
        ([ONE, "--csv", "-", "--json"], "only one of --json, --csv - and --markdown - can use"),
        ([ONE, "--csv", "/nowhere/x.csv"], "/nowhere/x.csv can't be written: No such file"),
        ([ONE, "--min-seeds", "1"], "--min-seeds 1: a verdict needs at least 2 seeds of each variant"),
        ([ONE, "--margin", "-1 dB"], "--margin '-1 dB': expected 0 or more"),
        ([ONE, "--margin", "nan dB"], "--margin 'nan dB': expected a number and its unit"),
        ([ONE, "--margin", "1e999 dB"], "expected a number and its unit"),
        ([ONE, "--margin", "much"], "--margin 'much': expected a number and its unit"),
        ([ONE, "--margin", ""], "--margin '': expected a number and its unit"),
        ([ONE, "--margin", "0.1", "dB"], "--margin: quote the number with its unit, such as '0.1 dB'"),
        ([ONE, "--margin", "0.1"], "si_sdr is measured in dB; write --margin 'si_sdr=0.1 dB'"),
        ([ONE, "--margin", "0.1 %"], "--margin '0.1 %': si_sdr is measured in dB"),
        ([ONE, "--margin", "si_sdr=1 %"], "--margin 'si_sdr=1 %': si_sdr is measured in dB"),
        ([ONE, "--margin", "si_sd=1 dB"], "'si_sd' is not a compared metric, did you mean 'si_sdr'?"),
        ([ONE, "--margin", "wer=1 %"], "'wer' is not a compared metric; compared: si_sdr"),
        ([ONE, "--margin", "1 dB", "--margin", "2 dB"], "--margin '2 dB': si_sdr already has a margin"),
    ],
)  # fmt: skip
def test_mistakes_have_one_clear_message(sepdash, words, message):
    answer = sepdash("compare", *words)

    assert answer.code == 2
    assert message in answer.err
    assert len(answer.err.splitlines()) == 1
    assert answer.out == ""


@pytest.mark.parametrize("margin", ["1.2 dB", "1.2dB", "si_sdr=1.2 db", " si_sdr = 12e-1 dB "])
def test_a_margin_decides_what_counts(sepdash, margin):
    table = rows_of(csv_of(sepdash, "--margin", margin))
    assert [row["verdict"] for row in table["si_sdr"]] == [
        "", "equivalent", "equivalent", "undecided",
    ]  # fmt: skip
    assert table["si_sdr"][0]["margin"] == "1.2"
    assert table["val_loss"][1]["verdict"] == "better", "another unit keeps its own margin"


def test_without_a_margin_any_difference_counts(sepdash):
    answer = sepdash("compare", "--experiment", "alone", "--margin", "0 dB")
    assert "don't count" not in answer.out
    assert "models equivalent" not in answer.out


def test_a_margin_of_one_metric_beats_that_of_all(sepdash):
    table = rows_of(csv_of(sepdash, "--margin", "val_loss=0.25", "--margin", "0.2 dB"))
    assert {row["margin"] for row in table["val_loss"]} == {"0.25"}
    assert {row["margin"] for row in table["si_sdr"]} == {"0.2"}


def test_losses_that_mean_different_things_are_not_compared(sepdash, experiments):
    add_experiment(experiments, "other", {"mse": BATCH["twice"]}, loss="mse")
    runs = [f"batch-base-{seed}" for seed in range(3)] + [f"other-mse-{seed}" for seed in range(3)]

    refused = sepdash("compare", *runs, "--metric", "val_loss")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith(
        "sepdash: not comparable by val_loss: the runs differ in loss.kind, so its values don't mean the same. "
        "Compare by another metric, such as --metric si_sdr"
    )
    both = sepdash("compare", *runs, "--metric", "val_loss", "--metric", "si_sdr")
    assert both.code == 0
    assert "note: val_loss is not compared: the runs differ in loss" in both.out
    assert "better" in both.out
    rows = rows_of(sepdash("compare", *runs, "--csv", "-").out)["val_loss"]
    assert {(row["role"], row["verdict"], row["best"]) for row in rows} == {
        ("refused", "not comparable", "")
    }
    assert rows[0]["caveat"].startswith("the runs differ in loss")


def test_a_metric_that_is_suggested_instead_can_be_compared(sepdash, experiments):
    """Of two sets of labels neither the masked loss nor, worse, the entropy of the labels themselves."""
    lab = Lab(experiments)
    add_hubert(lab, "first")
    add_hubert(lab, "second", clusters=500)
    lab.close()
    refused = sepdash("compare", "first", "second", "--metric", "val_loss").err
    assert "the runs differ in loss.clusters, so its values" in refused
    assert "--metric" not in refused.split("mean the same")[1]


def test_few_items_give_no_verdict_and_no_advice_about_seeds(sepdash, experiments):
    add_experiment(experiments, "few", BATCH, items=6)
    out = sepdash("compare", "--experiment", "few").out
    assert out.count("undecided") == 3
    assert "twice, same, noisy: only 6 validation items; a verdict needs 10" in out
    assert "seeds a side would" not in out


def test_text_of_others_can_not_control_the_terminal(sepdash, experiments):
    add_experiment(experiments, "bad", {"a\x1b[31m": {0: 0.0}, "b\x9b2J": {0: 1.0}})
    for words in ((), ("--csv", "-"), ("--markdown", "-")):
        answer = sepdash("compare", "--experiment", "bad", *words)
        out = answer.out
        assert "models differ" in out, answer.err
        assert not {"\x1b", "\x9b"} & set(out), words


def test_error_rates_are_in_percent(sepdash, experiments):
    levels = {"near": {0: 0.0, 1: 0.1, 2: 0.0}, "far": {0: 2.0, 1: 2.1, 2: 1.9}}
    ids = add_experiment(experiments, "asr", levels, metric="wer", scale=0.01)
    middle = HARD.mean() + 0.1
    lines = sepdash("compare", "--experiment", "asr", "--margin", "0.3 %").out.splitlines()
    heading = " ".join(lines[3:5])
    assert heading == (
        "wer (%, lower is better, 30 validation items); differences below 0.3 % absolute don't count"
    )
    assert lines[6].split()[:4] == ["near", "3", f"{middle + 0.0333:.2f}", "±"]
    assert lines[7].split()[6] == "+1.97"
    assert lines[7].endswith("worse")
    (row, _) = rows_of(sepdash("compare", "--experiment", "asr", "--csv", "-").out)["wer"]
    assert float(row["best"]) == pytest.approx((middle + 0.0333) / 100, abs=1e-5)
    assert ids
