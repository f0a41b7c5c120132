"""Which runs share an axis: those whose values mean the same, by the rule of comparisons."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from jobs.comparison import notes
from jobs.comparison.evaluations import Point, RunScores
from jobs.meaning import differing_settings
from jobs.store.reader import StoreReader
from tests.tui.objectives import (
    ENTROPY,
    add_codec,
    add_hubert,
    add_separation,
    add_wav2vec2,
    config_of,
)
from tui.live.messages import RunData
from tui.widgets.charts import build as charts
from tui.widgets.charts.figure import Plot
from tui.widgets.charts.panels import compose_panels, x_under
from tui.widgets.charts.plot import cursor_x
from tui.widgets.charts.view import View

SIZES = {"80x24": (38, 6), "120x40": (56, 10), "200x50": (55, 23)}


@pytest.fixture
def data(lab):
    """Two seeds of a first iteration of HuBERT, a second one, wav2vec 2.0, and a separator."""
    runs = [
        add_hubert(lab, "hubert-mfcc-s0"),
        add_hubert(lab, "hubert-mfcc-s1", seed=1, level=1.2),
        add_hubert(lab, "hubert-second", level=2.0, clusters=500, targets_from="hubert-mfcc-s0"),
        add_wav2vec2(lab, "wav2vec2"),
        add_separation(lab, "denoise"),
    ]
    return read(lab, runs)


def read(lab, runs: list[int]) -> list[RunData]:
    with StoreReader(lab.home.store) as reader:
        return [
            RunData(
                reader.run(run), reader.config(run), curves=reader.curves(run, list(reader.latest(run))),
                latest=reader.latest(run), system=tuple(reader.system(run)),
            )
            for run in runs
        ]  # fmt: skip


def names(plot: Plot) -> list[str]:
    return [line.label for line in plot.lines]


def apart(plot: Plot) -> list[tuple[list[str], str]]:
    return [(names(other), other.note) for other in plot.apart]


def text(plot: Plot, size: tuple[int, int]) -> list[str]:
    rows = ["".join(part for part, _ in row) for row in compose_panels(plot, size)]
    assert [len(row) for row in rows] == [size[0]] * size[1]
    return rows


def test_losses_that_do_not_mean_the_same_share_no_axis(data):
    plot = charts.build(data, {})["loss"]
    assert (plot.unit, names(plot)) == ("nats", ["hubert-mfcc-s0", "hubert-mfcc-s1"])
    assert apart(plot) == [
        (["hubert-second"], "loss.clusters = 500, loss.targets_from = hubert-mfcc-s0"),
        (["wav2vec2"], "loss.kind = wav2vec2"),
        (["denoise"], "loss.kind = si_sdr"),
    ]
    assert [other.unit for other in plot.apart] == ["nats", "nats", "dB"]
    assert len({other.x_range for other in (plot, *plot.apart)}) == 1, "one crosshair for all"


@pytest.mark.parametrize(
    ("section", "setting", "value"),
    [
        ("loss", "normalize", "sequence"), ("loss", "unmasked_weight", 0.5), ("loss", "mask_prob", 0.8),
        ("loss", "mask_length", 4), ("loss", "clusters", 50), ("loss", "penalty", 2.0),
    ],
)  # fmt: skip
def test_charts_keep_apart_what_comparisons_refuse(data, section, setting, value):
    """Each setting on which a loss depends, through both doors; and one on which it does not."""
    other = config_of("ssl/hubert-small", **{section: {setting: value}})
    pair = [data[0], dataclasses.replace(data[1], config=other)]
    plot = charts.build(pair, {})["loss"]
    assert [note for _, note in apart(plot)] == [f"{section}.{setting} = {value}"]
    assert notes.different_meaning([scores_of(item) for item in pair], "val_loss") == (
        f"the runs differ in {section}.{setting}, so its values don't mean the same"
    )
    faster = config_of("ssl/hubert-small", optimizer={"lr": 1e-4}, batch={"items": 4})
    pair[1] = dataclasses.replace(pair[1], config=faster)
    assert apart(charts.build(pair, {})["loss"]) == []
    assert notes.different_meaning([scores_of(item) for item in pair], "val_loss") == ""


def scores_of(item: RunData) -> RunScores:
    points = {"val_loss": [Point(100, 100.0, value=1.0)]}
    return RunScores(item.run, item.run.name, config=item.config, points=points, items_keys={})


def test_the_group_of_the_selected_run_comes_first(data):
    plot = charts.build([data[4], *data[:4]], {})["loss"]
    assert (plot.unit, names(plot)) == ("dB", ["denoise"])
    assert names(plot.apart[0]) == ["hubert-mfcc-s0", "hubert-mfcc-s1"]


def test_losses_of_different_units_are_kept_apart_though_no_setting_differs(data):
    loss = dataclasses.replace(data[1].curves["loss"], unit="")
    older = dataclasses.replace(data[1], curves={**data[1].curves, "loss": loss})
    assert apart(charts.build([data[0], older], {})["loss"]) == [(["s1"], "not in nats")]
    assert apart(charts.build([older, data[0]], {})["loss"]) == [(["s0"], "in nats")]


def test_a_metric_asked_for_is_drawn_of_runs_with_the_same_labels(data):
    plot = charts.build(data, {}, view=View(metric="masked_loss"))["score"]
    assert names(plot) == ["hubert-mfcc-s0", "hubert-mfcc-s1", "entropy of the labels"]
    assert apart(plot)[0][0][0] == "hubert-second"
    score = charts.build(data, {})["score"]
    assert [(other.title, names(other)[0]) for other in score.apart] == [
        ("val_loss", "hubert-second"), ("val_loss", "wav2vec2"), ("SI-SDR", "denoise"),
    ]  # fmt: skip


def test_the_masked_loss_is_drawn_against_the_entropy_of_its_labels(data):
    """Of the nine curves of training, those in nats; the others are read in the legend."""
    plot = charts.build(data[:1], {})["loss"]
    drawn = {line.label: line for line in plot.lines if line.drawn}
    assert list(drawn) == [
        "train", "valid", "loss of masked frames", "loss of unmasked frames", "entropy of the labels",
    ]  # fmt: skip
    entropy = drawn.pop("entropy of the labels")
    assert entropy.dotted
    np.testing.assert_allclose(entropy.mean, ENTROPY)
    assert len({line.colour for line in drawn.values()}) == len(drawn)
    assert "clusters in use" in names(plot)
    asked = charts.build(data[:1], {}, view=View(metric="masked_loss"))["score"]
    assert [line.label for line in asked.lines if line.dotted] == ["entropy of the labels"]


def test_what_a_judge_hears_is_drawn_against_what_could_be_heard(lab):
    (item,) = read(lab, [add_codec(lab, "codec")])
    plot = charts.build([item], {})["score"]
    assert plot.title == "CER (judge)"
    (bound,) = [line for line in plot.lines if line.dotted]
    assert bound.label == "CER (judge) without the model"
    np.testing.assert_allclose(bound.mean, 0.8)
    of_both = charts.build([item, item], {})["score"]
    assert [line.label for line in of_both.lines if line.dotted] == [bound.label]
    other = charts.build([item], {}, view=View(metric="mel_distance"))["score"]
    assert not [line for line in other.lines if line.dotted]


def test_the_contrastive_loss_is_drawn_against_chance(data):
    """ln(K + 1), of the distractors in the settings of the run, so that runs of earlier versions have it, too."""
    few = config_of("ssl/wav2vec2-small", loss={"distractors": 20})
    for item, num in ((data[3], 100), (dataclasses.replace(data[3], config=few), 20)):
        plot = charts.build([item], {})["loss"]
        (chance,) = [line for line in plot.lines if line.dotted]
        assert chance.label == "chance"
        assert chance.drawn
        np.testing.assert_allclose(chance.mean, np.log(num + 1))
        assert (chance.x[0], chance.x[-1]) == (10, 2000)
        asked = charts.build([item], {}, view=View(metric="contrastive_loss"))["score"]
        assert [line.label for line in asked.lines if line.dotted] == ["chance"]
        of_both = charts.build([item, data[4]], {}, view=View(metric="contrastive_loss"))["score"]
        assert [line.label for line in of_both.lines if line.dotted] == ["chance"]


@pytest.mark.parametrize("loss", [{}, {"kind": "own"}])
def test_without_distractors_in_the_settings_no_chance_is_drawn(data, loss):
    item = dataclasses.replace(data[3], config={"loss": loss})
    assert not [line for line in charts.build([item], {})["loss"].lines if line.dotted]


def test_what_has_no_unit_shares_no_axis_with_a_loss_without_one(data):
    curves = {**data[3].curves, "loss": dataclasses.replace(data[3].curves["loss"], unit="")}
    plot = charts.build([dataclasses.replace(data[3], curves=curves)], {})["loss"]
    assert [line.label for line in plot.lines if line.drawn] == ["train", "valid"]


def test_memory_of_a_gpu_and_of_the_machine_are_kept_apart(data):
    on_cpu = dataclasses.replace(
        data[1],
        system=tuple(dataclasses.replace(sample, vram_bytes=None) for sample in data[1].system),
    )
    plot = charts.build([data[0], on_cpu], {})["memory"]
    assert (plot.unit, names(plot)) == ("GiB VRAM", ["s0"])
    assert [(other.unit, names(other)) for other in plot.apart] == [("GiB RAM", ["s1"])]


def test_panels_where_there_is_room_and_a_note_elsewhere(data):
    plot = charts.build(data[:1] + data[4:], {})["loss"]
    high = text(plot, SIZES["200x50"])
    assert high[0].startswith("Loss nats  ━ hubert-mfcc-s0")
    assert high[12].startswith("Loss dB  ━ denoise -11.7  loss.kind = si_sdr")
    for size in (SIZES["120x40"], SIZES["80x24"]):
        rows = text(plot, size)
        whole = "not shown: denoise (loss.kind = si_sdr)"
        short = "1 not shown: loss.kind = si_sdr"
        assert rows[1].strip() == (whole if size[0] >= len(whole) else short)
        assert not any("dB" in row for row in rows)
    assert "+1 apart" in text(plot, (50, 5))[0]


def test_a_note_too_long_for_names_counts_the_runs(data):
    plot = charts.build(data, {})["loss"]
    assert text(plot, SIZES["80x24"])[1] == "3 not shown: loss.clusters = 500, los…"
    everything = text(plot, (160, 40))
    assert [row.split("━")[1].split()[0] for row in everything if "━" in row] == [
        "hubert-mfcc-s0", "hubert-second", "wav2vec2", "denoise",
    ]  # fmt: skip


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_the_mouse_reads_the_panel_it_is_over(data, size):
    plot = charts.build(data[:1] + data[4:], {})["loss"]
    width, height = size
    for row in range(height):
        assert x_under(plot, size, column=2, row=row) is None
        assert x_under(plot, size, column=width - 1, row=row) == pytest.approx(2000)
    assert x_under(plot, size, column=width - 1, row=height) is None
    alone = charts.build(data[:1], {})["loss"]
    assert x_under(alone, size, column=20, row=3) == cursor_x(alone, *size, 20)


def test_a_kind_that_differs_is_named_alone_and_a_missing_section_by_its_key():
    left, right = (
        {"loss": {"kind": "hubert", "penalty": 1.0}},
        {"loss": {"kind": "ctc", "blank": 0}},
    )
    assert differing_settings("val_loss", [left, right]) == ["loss.kind"]
    assert differing_settings("val_loss", [left, {}]) == ["loss"]
    assert differing_settings("val_loss", [left, left]) == differing_settings("val_loss", []) == []
    assert differing_settings("wer", [left, right]) == []
