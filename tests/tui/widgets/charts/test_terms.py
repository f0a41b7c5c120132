"""The terms of a loss: plots of their own, what matters first, the total last and faint, and a hint."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from engine.metrics.registry import evaluated_name, reading_of, stored_name
from jobs.store.reader import StoreReader
from tests.tui.objectives import add_hubert, add_separation, add_voice
from tui.live.feed import Feed, Watch
from tui.live.messages import ChartsChanged, RunData
from tui.widgets.charts import build as charts
from tui.widgets.charts.figure import FAINT, LINE, Plot
from tui.widgets.charts.panels import compose_panels, x_under
from tui.widgets.charts.view import View

SIZES = {"80x24": (38, 6), "120x40": (56, 10), "200x50": (55, 23), "80x24 alone": (78, 12)}
VOICE = "mel matters; text above mel is normal"


@pytest.fixture
def read(lab):
    """What the feed reads of runs, as the dashboard gets it."""

    def watched(*runs: int) -> list[RunData]:
        posted = []
        feed = Feed(lab.home, lambda: StoreReader(lab.home.store), post=posted.append)
        feed.watch(Watch(runs))
        with StoreReader(lab.home.store) as reader:
            feed.poll(reader)
        (message,) = (item for item in posted if isinstance(item, ChartsChanged))
        return list(message.data)

    return watched


def labels(plot: Plot) -> list[str]:
    return [line.label for line in plot.lines if line.drawn and len(line.x)]


def text(plot: Plot, size: tuple[int, int]) -> list[str]:
    rows = ["".join(part for part, _ in row) for row in compose_panels(plot, size)]
    assert [len(row) for row in rows] == [size[0]] * size[1]
    return rows


@pytest.mark.parametrize(
    ("weights", "order", "hint"),
    [
        ((0.01, 1.0), ["mel", "text"], VOICE),
        ((0.0, 1.0), ["mel", "text"], VOICE),
        ((0.1, 1.0), ["mel", "text"], VOICE),
        ((0.001, 0.01), ["mel", "text"], VOICE),
        ((0.5, 1.0), ["mel", "text"], "mel matters most, then text"),
        ((1.0, 1.0), ["text", "mel"], "a language: text matters; a voice: mel"),
        ((1.0, 0.01), ["text", "mel"], "text matters; mel is for a voice later"),
        ((1.0, 0.0), ["text", "mel"], "text matters; mel is for a voice later"),
    ],
)
def test_weights_say_what_a_voice_is_for(weights, order, hint):
    config = {"loss": dict(zip(("text_loss_weight", "mel_loss_weight"), weights, strict=True))}
    series = ("loss", "text_loss", "mel_loss", "val_mel_loss", "mel_accuracy")
    reading = reading_of(series, config)
    assert (reading.order, reading.hint) == (tuple(f"{name}_loss" for name in order), hint)
    assert len(hint) <= 38, "the width of a chart in 80 columns"
    # Settings that can't be read, a term that is not measured, and another recipe.
    assert reading_of(series, {}).hint == ""
    assert reading_of(("loss", "mel_loss", "val_text_loss"), config).order == ()
    assert reading_of(("loss", "masked_loss", "unmasked_loss"), config).order == ()


def test_each_term_has_a_plot_with_validation_and_training_items_and_the_total_is_last_and_faint(
    lab, read
):
    (item,) = read(add_voice(lab, "voice"))
    plot = charts.build([item], {})["loss"]
    assert plot.hint == VOICE
    assert [part.title for part in (plot, *plot.below)] == ["Mel loss", "Text loss", "Total loss"]
    seen = ["train", "valid", "train, evaluated"]
    assert [labels(part) for part in (plot, *plot.below)] == [
        [*seen, "entropy of the codes"],
        seen,
        seen,
    ]
    for part, name in zip((plot, *plot.below), ("mel_loss", "text_loss", "loss"), strict=True):
        valid = evaluated_name(name)
        for line, series in zip(
            part.lines, (name, valid, stored_name(valid, train=True)), strict=False
        ):
            values = item.curves[series].mean
            np.testing.assert_allclose(line.values, values)
        assert part.x_range == plot.x_range, "one crosshair for all"
    assert all(line.faint for line in plot.below[-1].lines)
    assert not any(line.faint for part in (plot, *plot.below[:-1]) for line in part.lines)
    # Each is still a metric of the second chart.
    asked = charts.build([item], {}, view=View(metric="text_loss"))["score"]
    assert "train" in labels(asked)
    log = charts.build([item], {}, view=View(log=True))["loss"]
    assert all(part.log for part in (log, *log.below))


def test_accuracies_of_training_are_not_drawn_beside_an_error_rate(lab, read):
    """Both are in percent, and one is better where the other is worse; the legend of the loss has them."""
    (item,) = read(add_voice(lab, "voice"))
    cer = dataclasses.replace(item.curves["mel_accuracy"], name="judged_cer", unit="")
    run = dataclasses.replace(item.run, metric="judged_cer")
    item = dataclasses.replace(item, run=run, curves={**item.curves, "judged_cer": cer})
    plots = charts.build([item], {})
    assert labels(plots["score"]) == ["raw"]
    assert {"mel accuracy", "text accuracy"} <= {line.label for line in plots["loss"].lines}


@pytest.mark.parametrize("weight", [0.01, 1.0], ids=["voice", "language"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_names_are_whole_and_what_matters_is_drawn_at_every_size(lab, read, size, weight):
    (item,) = read(add_voice(lab, "voice", text_loss_weight=weight))
    plot = charts.build([item], {})["loss"]
    rows = text(plot, size)
    titles = ["Mel loss", "Text loss"] if weight < 1 else ["Text loss", "Mel loss"]
    titles.append("Total loss")
    legends = [row for row in rows if row.startswith(tuple(titles))]
    drawn = {6: 1, 10: 2, 12: 2, 23: 3}[size[1]]
    assert [row.split("━")[0].split("nats")[0].strip() for row in legends] == titles[:drawn]
    for row in legends:
        assert "━ train" in row
        assert "━ valid" in row
    assert rows[1].startswith(plot.hint)
    assert ("Total loss" in rows[1]) == (size[1] in (10, 12))
    assert sum("updates" in row for row in rows) == 1
    roles = {role for row in compose_panels(plot, size) for _, role in row}
    assert {LINE, LINE + 1} <= roles
    if drawn == 3:
        below = compose_panels(plot, size)[-8:-1]
        assert {role for row in below for _, role in row if role >= LINE} <= {FAINT, FAINT + 1}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_the_mouse_reads_each_panel(lab, read, size):
    (item,) = read(add_voice(lab, "voice"))
    plot = charts.build([item], {})["loss"]
    width, height = size
    for row in range(height):
        assert x_under(plot, size, column=width - 1, row=row) == pytest.approx(2000)
        assert x_under(plot, size, column=2, row=row) is None
    assert x_under(plot, size, column=width - 1, row=height) is None
    read_at = "".join(part for row in compose_panels(plot, size, cursor=1000.0) for part, _ in row)
    assert f" {item.curves['mel_loss'].mean[99]:.2f} " in read_at


def test_voices_with_other_weights_share_the_plots_of_terms_and_not_that_of_the_total(lab, read):
    runs = [
        add_voice(lab, "light", text_loss_weight=0.01),
        add_voice(lab, "heavy", seed=1, text_loss_weight=1.0),
        add_separation(lab, "denoise"),
    ]
    plot = charts.build(read(*runs), {})["loss"]
    mel, words, total = plot, *plot.below
    assert labels(mel) == labels(words) == ["light", "heavy"]
    assert labels(total) == ["light"]
    assert total.note == "2 not shown: loss.text_loss_weight = 1.0; loss.kind = si_sdr"
    assert text(plot, SIZES["120x40"])[1].strip() == "not shown: denoise (loss.kind = si_sdr)"
    first_two = charts.build(read(*runs[:2]), {})["loss"]
    assert text(first_two, SIZES["80x24"])[1].strip() == VOICE


def test_a_loss_without_declared_terms_is_one_plot(lab, read):
    (item,) = read(add_hubert(lab, "hubert"))
    plot = charts.build([item], {})["loss"]
    assert (plot.title, plot.below, plot.hint) == ("Loss", (), "")
    # A voice before its first update, and one of which only one term was measured.
    (voice,) = read(add_voice(lab, "voice"))
    curves = {name: curve for name, curve in voice.curves.items() if name != "text_loss"}
    one = charts.build([dataclasses.replace(voice, curves=curves)], {})["loss"]
    assert (one.title, one.below) == ("Loss", ())
