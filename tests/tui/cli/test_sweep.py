"""`sepdash sweep`: the plan, what it queues, what it refuses."""

from __future__ import annotations

import json
import shlex
from datetime import datetime
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile

from engine.config.loading import load_config
from engine.recipes.specs import RecipeSpec
from jobs.store.reader import StoreReader
from jobs.store.writer import StoreWriter
from jobs.submit import absolute
from jobs.sweeps import prepare, probe_requests
from jobs.sweeps.trial import read_measured
from presets.merging import merge
from tests.earlier import add_earlier

EXPERIMENT = """
description = "two batches"
base = "denoise/small"
match = "items"
seeds = [0, 1]
[set]
schedule.length = "40 updates"
[variants.baseline]
[variants.batch2x]
batch.items = 16
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "night.toml"
    path.write_text(EXPERIMENT)
    return path


@pytest.fixture
def folders(tmp_path: Path, write_tone) -> list[str]:
    settings = []
    for key in ("train", "valid", "noise"):
        write_tone(tmp_path / key / "tone.wav")
        settings += ["--set", f"data.{key}={tmp_path / key}"]
    return settings


def test_without_a_name_the_experiments_are_listed(sepdash) -> None:
    lines = sepdash("sweep").out.splitlines()
    assert lines[0].split() == ["EXPERIMENT", "DESCRIPTION"]
    assert any(line.startswith("audio-unet-10k") for line in lines)


def test_dry_run_shows_the_plan_and_writes_nothing(sepdash, home, file) -> None:
    answer = sepdash("sweep", str(file), "--dry-run")
    lines = answer.out.splitlines()
    assert answer.code == 0
    assert lines[0] == "night: 4 runs of denoise/small, matched in items, schedules scaled"
    assert lines[2].split()[:5] == ["night-baseline-s0", "0", "8", "40", "320"]
    assert lines[3].split()[:5] == ["night-batch2x-s0", "0", "16", "20", "320"]
    assert lines[-2].startswith("total: 120 updates, 0.2 h of audio, duration unknown for 4 runs")
    assert lines[-1].startswith("two seeds per variant detect only large differences")
    assert not home.root.exists()


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        ("[5]", "one seed per variant compares these trained models, not the recipes"),
        ("[0, 1]", "two seeds per variant detect only large differences between recipes"),
        ("[0, 1, 2]", None),
    ],
)
def test_the_plan_says_in_one_line_what_its_seeds_can_not_tell(
    sepdash, file, seeds: str, words: str | None
) -> None:
    file.write_text(EXPERIMENT.replace("[0, 1]", seeds))
    lines = sepdash("sweep", str(file), "--dry-run").out.splitlines()
    found = [line for line in lines if "per variant" in line]
    assert [line.partition(";")[0].partition(":")[0] for line in found] == (
        [words] if words else []
    )
    caveat = json.loads(sepdash("sweep", str(file), "--dry-run", "--json").out)["caveat"]
    assert caveat == (found[0] if found else None)


def test_a_single_variant_compares_nothing(sepdash, file) -> None:
    file.write_text('base = "denoise/small"')
    assert "seed" not in sepdash("sweep", str(file), "--dry-run").out.splitlines()[-1]


def test_a_dry_run_checks_references_to_runs_and_writes_nothing(sepdash, home, file) -> None:
    file.write_text(EXPERIMENT + '[variants.tuned]\ninit_from = "night-basline-s0"\n')
    for more in ((), ("--json",)):
        answer = sepdash("sweep", str(file), "--dry-run", *more)
        assert (answer.code, answer.out) == (2, "")
        assert answer.err == (
            "sepdash: init_from: no run 'night-basline-s0', did you mean 'night-baseline-s0'? "
            "(write a folder with a slash: ./night-basline-s0)\n"
        )
    assert not home.root.exists()


def test_a_dry_run_says_all_that_queueing_would_refuse(sepdash, home, tmp_path, folders) -> None:
    file = tmp_path / "night.toml"
    file.write_text(EXPERIMENT)
    answer = sepdash("sweep", str(file), "--dry-run")
    first, *refused = answer.err.splitlines()
    assert (answer.code, first) == (0, "not ready to be queued:")
    assert [line.split(":")[0].strip() for line in refused] == [
        "data.train",
        "data.valid",
        "data.noise",
    ]
    record = json.loads(sepdash("sweep", str(file), "--dry-run", "--json").out)
    assert record["refused"] == [line.strip() for line in refused]
    queueing = sepdash("sweep", str(file))
    title, *problems = queueing.err.splitlines()
    assert (queueing.code, title, problems) == (2, "sepdash: 3 problems:", refused)
    assert not home.store.exists()
    ready = sepdash("sweep", str(file), *folders, "--dry-run", "--json")
    assert (json.loads(ready.out)["refused"], ready.err) == ([], "")


PROBED = """
base = "ssl/hubert-small"
[set]
schedule.length = "40 updates"
[probe]
data = "nowhere.jsonl"
"""


def test_a_dry_run_says_what_is_wrong_with_the_recordings_for_probes(sepdash, tmp_path) -> None:
    file = tmp_path / "probed.toml"
    file.write_text(PROBED)
    for name in ("train", "valid"):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "noise.wav", np.full(64_000, 0.1), 16_000)
    folders = [f"--set=data.{name}={tmp_path / name}" for name in ("train", "valid")]
    answer = sepdash("sweep", str(file), *folders, "--dry-run")
    assert answer.code == 0
    *_, title, refused, then = answer.err.splitlines()
    assert title == "not ready to be queued:"
    assert refused.startswith("  probe.data: ")
    assert "nowhere.jsonl" in refused
    assert then.startswith(
        "once all have ended, the worker probes their features with nowhere.jsonl"
    )
    queueing = sepdash("sweep", str(file), *folders)
    assert (queueing.code, queueing.err.splitlines()[-1]) == (2, f"sepdash: {refused.strip()}")


def test_where_lengths_are_read_from_data_all_that_is_missing_is_told_at_once(
    sepdash, home, tmp_path
) -> None:
    file = tmp_path / "probed.toml"
    file.write_text(PROBED.replace("hubert-small", "wav2vec2-small"))
    folders = ["--set=data.train=/nowhere", "--set=data.valid=/no/valid"]
    for more in (("--dry-run",), ()):
        answer = sepdash("sweep", str(file), *folders, *more)
        title, *problems = answer.err.splitlines()
        assert (answer.code, title) == (2, "sepdash: 3 problems:")
        keys = [line.partition(":")[0].strip() for line in problems]
        assert keys == ["data.train", "data.valid", "probe.data"]
    assert not home.store.exists()


def test_runs_without_features_are_not_queued_for_a_probe(sepdash, home, file, folders) -> None:
    file.write_text(EXPERIMENT + '[probe]\ndata = "labels.jsonl"\n')
    expected = (
        "probe: runs of separation give no features to probe; remove the section [probe], or train "
        "data2vec2, wav2vec2, hubert"
    )
    assert expected in sepdash("sweep", str(file), *folders, "--dry-run").err
    answer = sepdash("sweep", str(file), *folders)
    assert (answer.code, answer.err) == (2, f"sepdash: {expected}\n")
    assert not home.store.exists()


def test_a_recipe_that_does_not_say_whether_it_can_be_probed_is_warned_of(
    sepdash, file, folders, monkeypatch
) -> None:
    monkeypatch.setattr(
        probe_requests, "spec_of", lambda name: RecipeSpec(name, "a toy", "toy:open")
    )
    monkeypatch.setattr(probe_requests, "read_labelled", lambda *args, **more: None)
    file.write_text(EXPERIMENT + '[probe]\ndata = "labels.jsonl"\n')
    for more in (("--dry-run",), ()):
        lines = sepdash("sweep", str(file), *folders, *more).err.splitlines()
        warnings = [line for line in lines if line.startswith("warning: the recipe separation")]
        assert warnings == [
            "warning: the recipe separation does not say whether its networks give features "
            "(`RecipeSpec.gives_features`); if they don't, the probe fails once the runs have ended"
        ]


def test_sweep_queues_all_runs_with_their_experiment(sepdash, home, file, folders) -> None:
    answer = sepdash("sweep", str(file), *folders)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.splitlines()[-1] == "4 runs queued: 1 to 4"
    with StoreReader(home.store) as reader:
        runs = reader.runs()
        assert [(r.experiment, r.variant, r.seed, r.total_updates) for r in runs] == [
            ("night", "baseline", 0, 40),
            ("night", "batch2x", 0, 20),
            ("night", "baseline", 1, 40),
            ("night", "batch2x", 1, 20),
        ]
        assert {run.preset for run in runs} == {"denoise/small"}
        assert reader.config(2)["schedule"]["length"] == "320 items"


@pytest.mark.parametrize(("answer", "queued"), [("n", 0), ("y", 4)])
def test_on_a_terminal_the_plan_is_asked_about(
    sepdash, home, file, folders, monkeypatch, answer: str, queued: int
) -> None:
    def confirm(text: str, **_: object) -> bool:
        assert text == "queue 4 runs?"
        if answer == "n":
            raise click.Abort
        return True

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr(click, "confirm", confirm)
    assert sepdash("sweep", str(file), *folders).code == (0 if queued else 130)
    with StoreReader(home.store) as reader:
        assert len(reader.runs()) == queued


def test_a_taken_name_queues_nothing(sepdash, home, file, folders) -> None:
    sepdash("enqueue", "denoise/small", *folders, "--name", "night-batch2x-s1")
    answer = sepdash("sweep", str(file), *folders)
    assert answer.code == 2
    assert "'night-batch2x-s1' already exists" in answer.err
    with StoreReader(home.store) as reader:
        assert len(reader.runs()) == 1


def measured(home, *, updates: int = 20, **seconds: float) -> None:
    """Turn the first two queued runs, one of each variant, into runs of which the times are known."""
    with StoreReader(home.store) as reader:
        configs = [load_config(reader.config(run)) for run in (1, 2)]
        names = [run.name for run in reader.runs()]
    with StoreWriter(home.store) as store:
        for run_id in range(1, len(names) + 1):
            store.delete_run(run_id)
        for number, config in enumerate(configs):
            short = merge(config.to_dict(), {"schedule": {"length": f"{updates} updates"}})
            run_id = add_earlier(store, load_config(short), name=f"earlier{number}", **seconds)
            store.add_checkpoint(
                run_id, "last", path=str(home.root), updates=updates, metrics={}, size_bytes=2**20
            )


def test_time_and_disk_are_estimated_from_earlier_runs(sepdash, home, file, folders) -> None:
    sepdash("sweep", str(file), *folders)
    measured(home, update_s=0.5, evaluation_s=2.0, startup_s=6.0, warmup_s=0.0)
    runs = json.loads(sepdash("sweep", str(file), *folders, "--dry-run", "--json").out)["runs"]
    # 40 and 20 updates, each with two evaluations.
    assert [run["seconds"] for run in runs] == pytest.approx([30, 20, 30, 20])
    assert [run["size_bytes"] for run in runs] == [1048576] * 4
    total = sepdash("sweep", str(file), *folders, "--dry-run").out.splitlines()[-2]
    assert "about 1m40s (estimated from earlier runs)" in total
    assert "4.0 MiB of" in total


def test_missing_audio_is_named_and_nothing_is_queued(sepdash, home, file) -> None:
    answer = sepdash("sweep", str(file))
    assert answer.code == 2
    assert "data.train" in answer.err
    assert not home.store.exists()


def test_an_unknown_experiment_is_answered_with_the_nearest_name(sepdash) -> None:
    answer = sepdash("sweep", "audio-unet-10")
    assert (answer.code, answer.err) == (
        2,
        "sepdash: unknown experiment 'audio-unet-10', did you mean 'audio-unet-10k'?\n",
    )


def test_a_broken_file_is_one_message(sepdash, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("base = \n")
    answer = sepdash("sweep", str(tmp_path / "bad.toml"))
    assert answer.code == 2
    assert "bad.toml is not valid TOML" in answer.err


def test_experiments_of_the_user_are_found_by_name_and_are_no_presets(sepdash, home) -> None:
    folder = home.presets / "experiments"
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text(EXPERIMENT)
    assert "two batches" in sepdash("sweep").out
    assert "mine-batch2x-s1" in sepdash("sweep", "mine", "--dry-run").out
    assert "experiments" not in sepdash("presets").out


@pytest.fixture
def timed(sepdash, home, file, folders):
    """A home in which the times of both variants are known: 30 and 20 s."""
    sepdash("sweep", str(file), *folders)
    measured(home, update_s=0.5, evaluation_s=2.0, startup_s=6.0, warmup_s=0.0)
    return home


def reader_id(home, name: str) -> int:
    with StoreReader(home.store) as reader:
        return reader.run(name).id


def names_of(home) -> list[str]:
    with StoreReader(home.store) as reader:
        return [run.name for run in reader.runs() if run.state == "queued"]


def test_a_night_queues_whole_rounds_and_the_rest_follows(sepdash, timed, file, folders) -> None:
    answer = sepdash("sweep", str(file), *folders, "--budget", "90 s", "--dry-run")
    assert (answer.code, names_of(timed)) == (0, [])
    assert answer.out.startswith("night: 2 of 4 runs of denoise/small until ")
    lines = answer.out.splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["night-baseline-s0", "night-batch2x-s0"]
    assert "by then: 1 of 2 seeds complete: trained models can be compared, not recipes" in lines
    assert "left out: night-baseline-s1, night-batch2x-s1" in lines
    assert "of the next round" not in answer.out
    (later,) = [
        line.partition(": ")[2] for line in lines if line.startswith("queue them later with")
    ]

    assert sepdash("sweep", str(file), *folders, "--budget", "90 s").code == 0
    assert names_of(timed) == ["night-baseline-s0", "night-batch2x-s0"]
    # The command that it prints, as a shell reads it.
    program, *words = shlex.split(later)
    assert program == "sepdash"
    answer = sepdash(*words)
    assert answer.code == 0
    assert answer.out.splitlines()[-1].endswith("2 runs queued: 9 to 10")
    assert names_of(timed) == [f"night-{v}-s{s}" for s in (0, 1) for v in ("baseline", "batch2x")]
    answer = sepdash(*words)
    assert answer.code == 2
    assert "every run of this experiment already exists" in answer.err


def test_what_is_queued_before_counts(sepdash, timed, file, folders) -> None:
    sepdash("sweep", str(file), *folders, "--budget", "90 s")
    answer = json.loads(
        sepdash(
            "sweep", str(file), *folders, "--rest", "--budget", "98 s", "--dry-run", "--json"
        ).out
    )
    assert answer["runs_before"] == ["night-baseline-s0", "night-batch2x-s0"]
    assert (answer["night"]["rounds"], answer["runs"]) == (1, [])
    assert answer["night"]["next_round_seconds"] == pytest.approx(50)
    before = datetime.now().astimezone()
    answer = json.loads(
        sepdash(
            "sweep", str(file), *folders, "--rest", "--budget", "10 min", "--dry-run", "--json"
        ).out
    )
    ends = [datetime.fromisoformat(run["end"]) for run in answer["runs"]]
    seconds = [(end - before).total_seconds() for end in ends]
    # 50 s of runs before, then 30 and 20.
    assert seconds == pytest.approx([80, 100], abs=5)
    assert answer["night"]["rounds"] == 2


def test_a_part_of_a_round_is_queued_on_request_only(sepdash, timed, file, folders) -> None:
    night = ["sweep", str(file), *folders, "--budget", "55 s"]
    edit = file.read_text() + "[variants.batch4x]\nbatch.items = 16\noptimizer.lr = 0.1\n"
    file.write_text(edit)
    answer = sepdash(*night)
    assert answer.code == 2
    assert "no complete round fits until" in answer.err
    assert "all variants of one seed take up to 1m10s" in answer.err
    assert "--partial queues what fits: baseline, batch2x" in answer.err
    assert names_of(timed) == []
    answer = sepdash(*night, "--partial")
    assert answer.code == 0
    assert "0 of 2 seeds complete: not every variant has a run" in answer.out
    assert names_of(timed) == ["night-baseline-s0", "night-batch2x-s0"]


def test_unknown_times_queue_nothing(sepdash, home, file, folders) -> None:
    answer = sepdash("sweep", str(file), *folders, "--until", "07:30")
    assert answer.code == 2
    assert answer.err.startswith("sepdash: no measured time of 4 runs: night-baseline-s0, ")
    assert "--measure" in answer.err
    assert names_of(home) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--until", "25:00"], "--until '25:00' is not a time"),
        (["--budget", "soon"], "--budget 'soon' is not a duration"),
        (["--until", "07:30", "--budget", "9h"], "--until and --budget are alternatives"),
        (["--partial"], "--partial needs --until or --budget"),
        (
            ["--origins", "baseline", "--until", "07:30"],
            "--until plans runs, and --origins shows settings only",
        ),
    ],
)
def test_wrong_nights_are_one_message(sepdash, file, words, message) -> None:
    answer = sepdash("sweep", str(file), *words)
    assert answer.code == 2
    assert message in answer.err
    assert len(answer.err.splitlines()) <= 3


@pytest.mark.parametrize(
    "words",
    [["--until", "07:30"], ["--budget", "9h", "--yes"], ["--rest"], ["--measure"], ["--set", "seed=1"],
     ["--dry-run"], ["--yes"], ["--origins", "a"]],
)  # fmt: skip
def test_an_option_without_an_experiment_is_not_ignored(sepdash, words) -> None:
    answer = sepdash("sweep", *words)
    assert answer.code == 2
    assert f"{words[0]} needs an EXPERIMENT; `sepdash sweep` lists all experiments" in answer.err
    assert answer.out == ""


def test_a_run_that_failed_keeps_its_round_open_and_says_how_to_go_on(
    sepdash, timed, file, folders
) -> None:
    sepdash("sweep", str(file), *folders, "--budget", "90 s")
    with StoreWriter(timed.store) as store:
        store.move(7, "failed", ("queued",))
    answer = sepdash(
        "sweep", str(file), *folders, "--rest", "--until", "2099-01-01 00:00", "--dry-run"
    )
    assert answer.code == 2  # too far away
    answer = sepdash("sweep", str(file), *folders, "--rest", "--budget", "1h", "--dry-run")
    assert "1 of 2 seeds complete" in answer.out
    assert "night-baseline-s0 failed: `sepdash resume 7` continues it" in answer.out


def test_a_dry_run_in_which_nothing_fits_says_so(sepdash, timed, file, folders) -> None:
    answer = sepdash("sweep", str(file), *folders, "--budget", "10 s", "--dry-run")
    assert answer.code == 0
    assert answer.out.splitlines()[-1].startswith("no complete round fits until ")


def test_runs_of_an_edited_experiment_are_warned_about(sepdash, timed, file, folders) -> None:
    sepdash("sweep", str(file), *folders, "--budget", "90 s")
    file.write_text(
        file.read_text().replace("[variants.batch2x]", "[variants.batch2x]\noptimizer.lr = 0.1")
    )
    answer = sepdash("sweep", str(file), *folders, "--rest", "--dry-run")
    assert answer.code == 0
    assert [line for line in answer.out.splitlines() if line.startswith("warning")] == [
        "warning: night-batch2x-s0 exists with other settings (optimizer.lr), so it can't be compared "
        "with the new runs; give the experiment another name"
    ]
    found = json.loads(sepdash("sweep", str(file), *folders, "--rest", "--dry-run", "--json").out)
    assert found["changed"] == {"night-batch2x-s0": ["optimizer.lr"]}


def test_the_rest_of_a_wall_clock_sweep_is_as_long_as_what_is_there(
    sepdash, timed, home, file, folders
) -> None:
    """Speeds change from night to night; the seeds of a variant must not."""
    file.write_text(file.read_text().replace('"items"', '"wall_clock"'))
    sweep = ["sweep", str(file), *folders, "--dry-run", "--json"]

    def lengths(*words: str) -> dict[str, int]:
        answer = sepdash(*sweep, *words)
        return {run["name"]: run["updates"] for run in json.loads(answer.out)["runs"]}

    first = lengths()
    assert sepdash("sweep", str(file), *folders, "--budget", "100 s").code == 0
    config = {}
    with StoreReader(home.store) as reader:
        there = [run.name for run in reader.runs() if run.state == "queued"]
        for run in reader.runs():
            config[run.name] = load_config(reader.config(run.id))
    assert there == ["night-baseline-s0", "night-batch2x-s0"]
    with StoreWriter(home.store) as store:
        slow = merge(config["night-batch2x-s0"].to_dict(), {"schedule": {"length": "500 updates"}})
        add_earlier(store, load_config(slow), name="slow", update_s=3.0)
    assert lengths("--rest") == {name: first[name] for name in first if name not in there}
    # With no run there, the new speed counts.
    with StoreWriter(home.store) as store:
        for name in there:
            store.delete_run(reader_id(home, name))
    assert lengths()["night-batch2x-s0"] < first["night-batch2x-s0"]


def test_lengths_matched_in_wall_clock_can_be_measured_first(
    sepdash, home, file, folders, monkeypatch
) -> None:
    """Both variants are timed, those that are queued before as well; then the plan is made."""
    sepdash("enqueue", "denoise/small", *folders, "--name", "before", "--set", "batch.items=4",
            "--set", "schedule.length=100 updates")  # fmt: skip
    file.write_text(file.read_text().replace('"items"', '"wall_clock"'))
    answer = sepdash("sweep", str(file), *folders, "--budget", "1h")
    assert answer.code == 2
    assert "speed unknown; `sepdash sweep --measure EXPERIMENT` measures it" in answer.err
    seconds = {4: 0.25, 8: 0.5, 16: 1.0}
    seen: list[str] = []

    def timed(home, configs, *, echo):
        with StoreWriter(home.store) as store:
            for name, config in configs:
                if config.seed == 0:
                    echo(name)
                    seen.append(name)
                    short = load_config(
                        merge(config.to_dict(), {"schedule": {"length": "20 updates"}})
                    )
                    update_s = seconds[config.batch.items]
                    add_earlier(
                        store,
                        absolute(short),
                        name=f"timed-{name}",
                        update_s=update_s,
                        evaluation_s=0.0,
                        warmup_s=0.0,
                    )
        return read_measured(home)

    monkeypatch.setattr(prepare, "time_configs", timed)
    answer = sepdash(
        "sweep", str(file), *folders, "--budget", "1h", "--measure", "--json", "--dry-run"
    )
    assert answer.code == 0, answer.err
    assert seen == ["baseline", "batch2x", "before"]
    found = json.loads(answer.out)
    assert [run["updates"] for run in found["runs"]][:2] == [40, 20]
    assert found["runs_before"] == ["before"]


def test_runs_that_may_stop_early_are_planned_at_full_length(sepdash, timed, file, folders) -> None:
    words = ["sweep", str(file), *folders, "--budget", "1h", "--dry-run"]
    assert "stop_when" not in sepdash(*words).out
    answer = sepdash(*words, "--set", "stop_when.target=30 dB")
    assert answer.code == 0
    assert "; stop_when may end runs earlier\n" in answer.out
    runs = json.loads(sepdash(*words, "--json", "--set", "stop_when.target=30 dB").out)["runs"]
    assert [run["seconds"] for run in runs] == pytest.approx([30, 20, 30, 20])
