"""What the feed read becomes four charts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from jobs.store.reader import StoreReader
from jobs.store.records import Curve, SystemRecord
from tui.live.messages import RunData
from tui.widgets.charts import build as charts
from tui.widgets.charts.curves import short_names
from tui.widgets.charts.view import View


@pytest.fixture
def data(lab):
    """Two runs with curves and one that waits."""
    ids = [
        lab.run("a", "finished", updates=2000),
        lab.run("b", "running", updates=1000),
        lab.run("c"),
    ]
    with StoreReader(lab.home.store) as reader:
        return [
            RunData(
                reader.run(run),
                reader.config(run),
                curves=reader.curves(run, ["loss", "val_loss", "si_sdr", "si_sdr_ema", "audio_s_per_s", "updates_per_s"]),
                latest=reader.latest(run),
                system=tuple(reader.system(run)),
            )
            for run in ids
        ]  # fmt: skip


def labels(plot) -> list[str]:
    return [line.label for line in plot.lines]


def test_one_run_has_all_its_curves(data):
    plots = charts.build(data[:1], {})
    assert {name: labels(plot) for name, plot in plots.items()} == {
        "loss": ["train", "valid"],
        "score": ["EMA", "raw", "input"],
        "throughput": ["audio s/s", "updates/s"],
        "memory": ["RAM", "VRAM"],
    }
    assert plots["score"].lines[2].mean.tolist() == [6.02, 6.02]


def test_a_run_judged_on_whole_files_has_a_curve_of_them(data):
    whole = Curve(
        "si_sdr_full_ema",
        "dB",
        bucket=1,
        updates=[2000],
        low=[9.0],
        high=[9.0],
        mean=[9.0],
        last=[9.0],
    )
    item = dataclasses.replace(data[0], curves={**data[0].curves, whole.name: whole})
    plot = charts.build([item], {})["score"]
    assert labels(plot) == ["EMA", "raw", "whole", "input"]
    assert plot.lines[2].mean.tolist() == [9.0]


def test_a_score_that_needs_a_setting_names_it_once_the_run_was_evaluated(data):
    run = dataclasses.replace(data[0].run, metric="probe_accuracy")
    curves = {"val_loss": data[0].curves["val_loss"]}
    item = dataclasses.replace(data[0], run=run, curves=curves, latest={"val_loss": 1.0})
    assert charts.build([item], {})["score"].empty == "not measured: set data.probe"
    fresh = dataclasses.replace(item, curves={}, latest={})
    assert charts.build([fresh], {})["score"].empty == "no evaluation yet"


def skipped(last, *, updates, bucket=1) -> Curve:
    low = [0.0, *last[:-1]]
    return Curve(
        "skipped", "", bucket=bucket, updates=updates, low=low, high=last, mean=last, last=last
    )


@pytest.mark.parametrize("bucket", [1, 16])
def test_updates_that_were_skipped_are_marked(data, bucket):
    """Where the count rises: a point, or a bucket of points."""
    curve = skipped([0.0, 2.0, 2.0, 5.0], updates=[500, 1000, 1500, 2000], bucket=bucket)
    item = dataclasses.replace(data[0], curves={**data[0].curves, "skipped": curve})
    plots = charts.build([item], {})
    for name in ("loss", "score"):
        assert plots[name].marks.tolist() == [1000, 2000]
        assert plots[name].marks_label == "5 skipped"
    assert plots["throughput"].marks is plots["memory"].marks is None
    items = charts.build([item], {}, view=View(clock="items"))["loss"]
    assert items.marks.tolist() == [item.run.items / 2, item.run.items]
    assert charts.build([item, data[1]], {})["loss"].marks is None


def test_without_skipped_updates_nothing_is_marked(data):
    calm = skipped([0.0, 0.0], updates=[1000, 2000])
    item = dataclasses.replace(data[0], curves={**data[0].curves, "skipped": calm})
    assert len(charts.build([item], {})["loss"].marks) == 0
    assert charts.build(data[:1], {})["loss"].marks is None


def test_what_is_measured_in_training_is_drawn_where_its_unit_is(data):
    more = {
        name: Curve(name, unit, bucket=1, updates=[1, 2], low=[low, 1.0], high=[low, 1.0], mean=[low, 1.0], last=[low, 1.0])
        for name, unit, low in (
            ("snr", "dB", 3.0), ("frame_accuracy", "", 0.25), ("val_accuracy", "", 0.5),
            ("accuracy", "", 0.5), ("accuracy_ema", "", 0.5), ("sdr", "dB", 7.0),
        )
    }  # fmt: skip
    loss = dataclasses.replace(data[0].curves["loss"], unit="nats")
    item = dataclasses.replace(data[0], curves={**data[0].curves, "loss": loss, **more})
    plots = charts.build([item], {})
    assert labels(plots["score"]) == ["EMA", "raw", "input", "snr"]
    assert plots["score"].lines[-1].mean.tolist() == [3.0, 1.0]
    # An accuracy is neither in dB nor in nats: its value is in the legend.
    assert labels(plots["loss"]) == ["train", "valid", "frame_accuracy"]
    assert [line.drawn for line in plots["loss"].lines] == [True, True, False]
    colours = [line.colour for name in ("loss", "score") for line in plots[name].lines]
    assert (colours.count(3), colours.count(4)) == (1, 0), "a colour only for what is drawn"
    mixed = charts.build([item, data[1]], {})["loss"]
    assert (labels(mixed), labels(mixed.apart[0])) == (["a"], ["b"]), "nats and no unit"


def with_curves(item, **means):
    """Return a run with more curves of two points, as if its store had them."""
    more = {
        name: Curve(name, "", bucket=1, updates=[1, 2], low=mean, high=mean, mean=mean, last=mean)
        for name, mean in means.items()
    }
    latest = {**item.latest, **{name: mean[-1] for name, mean in means.items()}}
    return dataclasses.replace(item, curves={**item.curves, **more}, latest=latest)


def test_chart_of_scores_shows_any_metric_of_the_run(data):
    item = with_curves(
        data[0], pesq_full=[1.5, 2.0], pesq_full_ema=[1.5, 2.1],
        frame_accuracy=[0.1, 0.2], val_frame_accuracy=[0.1, 0.3],
    )  # fmt: skip
    pesq = charts.build([item], {}, view=View(metric="pesq"))["score"]
    assert (pesq.title, pesq.unit) == ("PESQ", "")
    # Measured on whole files only; the input has no PESQ here.
    drawn = [line for line in pesq.lines if len(line.x)]
    assert [(line.label, line.mean.tolist()) for line in drawn] == [("whole", [1.5, 2.1])]
    accuracy = charts.build([item], {}, view=View(metric="frame_accuracy"))["score"]
    lines = {line.label: line.mean[-1] for line in accuracy.lines if len(line.x)}
    assert lines == {"raw": pytest.approx(0.3), "train": pytest.approx(0.2)}
    assert "masked accuracy" not in labels(
        charts.build([item], {}, view=View(metric="frame_accuracy"))["loss"]
    )
    # Another run has no such metric: it is left out of the chart; and where the first one has none, its
    # headline is shown.
    assert labels(charts.build([item, data[1]], {}, view=View(metric="pesq"))["score"]) == ["a"]
    assert charts.build([data[1], item], {}, view=View(metric="pesq"))["score"].title == "SI-SDR"


def test_several_runs_have_one_curve_each(data):
    plots = charts.build(data, {data[0].run.id: 2, data[1].run.id: 4, data[2].run.id: 5})
    assert [(line.label, line.colour) for line in plots["score"].lines] == [
        ("a", 2), ("b", 4), ("c", 5), ("input", 7),
    ]  # fmt: skip
    assert plots["loss"].x_range == (0.0, 2000.0) == plots["throughput"].x_range


def test_a_run_compared_with_one_that_has_not_started_keeps_all_its_curves(data):
    assert labels(charts.build([data[1], data[2]], {})["loss"]) == ["train", "valid"]


def test_a_waiting_run_says_so(data):
    assert charts.build(data[2:], {})["loss"].empty == "waiting in the queue"


@pytest.mark.parametrize(
    ("clock", "last"), [("updates", 2000), ("items", 32_000), ("train time", 160)]
)
def test_clocks_scale_the_axis(data, clock, last):
    assert charts.build(data[:1], {}, view=View(clock=clock))["loss"].lines[0].x[
        -1
    ] == pytest.approx(last)


def test_epochs_are_an_axis_of_runs_that_counted_them(data):
    uncounted, counted = (
        dataclasses.replace(item, run=dataclasses.replace(item.run, epochs=epochs))
        for item, epochs in zip(data[:2], (0.0, 2.5), strict=True)
    )
    plots = charts.build([counted, uncounted], {}, view=View(clock="epochs"))
    assert plots["loss"].lines[0].x[-1] == 2.5
    assert [len(line.x) > 0 for line in plots["loss"].lines] == [True, False]

    old = charts.build([uncounted], {}, view=View(clock="epochs"))
    assert [len(line.x) for name in ("loss", "throughput") for line in old[name].lines] == [0] * 4
    assert old["loss"].empty == "epochs unknown (trained by an earlier version)"
    assert len(old["memory"].lines[0].x)


def test_an_input_level_that_differs_between_runs_is_left_out(data):
    other = dataclasses.replace(data[1], run=dataclasses.replace(data[1].run, input_score=3.0))
    assert labels(charts.build([data[0], other], {})["score"]) == ["a", "b"]


def test_names_lose_the_words_they_have_in_common(data):
    def named(*names):
        items = [
            dataclasses.replace(data[0], run=dataclasses.replace(data[0].run, id=index, name=name))
            for index, name in enumerate(names)
        ]
        return list(short_names(items).values())

    assert named("denoise-small-1", "denoise-batch2x-1") == ["small-1", "batch2x-1"]
    assert named("a-1", "a-10") == ["1", "10"]
    assert named("same", "other") == ["same", "other"]
    assert named("run-", "run-x") == ["run-", "run-x"]


def test_speech_recognition_is_charted_by_its_word_error_rate_in_percent(lab, data):
    speech = lab.run("digits", "finished", updates=2000, metric="wer", level=4.0)
    with StoreReader(lab.home.store) as reader:
        curves = reader.curves(speech, ["loss", "wer", "wer_ema"])
        item = RunData(reader.run(speech), {}, curves=curves, latest={}, system=())
    plot = charts.build([item], {})["score"]
    assert (plot.title, plot.unit, labels(plot)) == ("WER", "%", ["EMA", "raw"])
    assert plot.lines[1].mean[-1] == pytest.approx(100 * (0.04 + 0.9 * np.exp(-2000 / 1500)))
    mixed = charts.build([item, data[0]], {})
    assert labels(mixed["score"]) == ["digits"]
    assert labels(mixed["loss"]) == ["digits", "a"]
    first = charts.build([data[0], item], {})["score"]
    assert (first.title, labels(first)) == ("SI-SDR", ["a", "input"])


def sample(time: float, *, own: float | None, machine: float = 12.0) -> SystemRecord:
    """Return a sample of memory in GiB, on a machine without a GPU."""
    return SystemRecord(
        time, 1, cpu_percent=10.0, ram_bytes=int(machine * 2**30), ram_total_bytes=2**36,
        process_ram_bytes=None if own is None else int(own * 2**30),
        gpu_percent=None, vram_bytes=None, vram_total_bytes=None, gpu_name=None,
    )  # fmt: skip


def test_memory_of_a_run_has_a_gap_where_it_was_stopped_and_is_never_that_of_the_machine(data):
    """The last sample before a stop has no process: 3.37 GiB of the machine were drawn as the run's 0.71."""
    before = [sample(float(second), own=0.5) for second in range(0, 60, 5)]
    after = [sample(600.0 + second, own=0.75) for second in range(0, 60, 5)]
    system = (*before, sample(60.0, own=None), *after)
    item = dataclasses.replace(data[0], system=system)
    ram = charts.build([item], {})["memory"].lines[0]
    assert ram.label == "RAM"
    values = dict(zip(ram.x.tolist(), ram.mean.tolist(), strict=True))
    assert (values[55.0], values[600.0]) == (0.5, 0.75)
    assert np.isnan(values[60.0])
    assert [x for x in values if 60 < x < 600 and np.isnan(values[x])], "no line through the pause"
    assert ram.values[np.isfinite(ram.values)].max() == 0.75

    old = tuple(dataclasses.replace(one, process_ram_bytes=None) for one in system)
    unknown = charts.build([dataclasses.replace(item, system=old)], {})["memory"].lines[0]
    assert (unknown.label, unknown.mean[0]) == ("machine's RAM", 12.0)


def test_training_items_are_drawn_beside_validation_dotted(data):
    more = {
        name: Curve(name, "", bucket=1, updates=[1, 2], low=[1.0, 0.5], high=[1.0, 0.5], mean=[1.0, 0.5], last=[1.0, 0.5])
        for name in ("val_loss_train", "si_sdr_train", "val_loss_train_ema", "si_sdr_train_ema")
    }  # fmt: skip
    item = dataclasses.replace(data[0], curves={**data[0].curves, **more})
    plots = charts.build([item], {})
    for name in ("loss", "score"):
        (line,) = (line for line in plots[name].lines if line.label == "train, evaluated")
        assert line.dotted
        assert line.mean.tolist() == [1.0, 0.5]
    assert labels(plots["loss"]) == ["train", "valid", "train, evaluated"]
