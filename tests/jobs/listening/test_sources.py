"""Where both sides come from: clips of runs, their input and target, folders, files, applied models."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import soundfile

from jobs.listening.applied import applied_sides, files_to_apply
from jobs.listening.sources import ClipsError, clips_of, files_of
from jobs.store.records import ClipRecord
from tests.jobs.listening.sounds import RATE_HZ


@pytest.fixture
def clips(home, store):
    """Return a function that adds a run with clips of two items at two evaluations."""

    def add(name: str, *, target=0, updates=(10, 20), sources=("",), items=2, best=10) -> int:
        run = store.insert_run(
            {"name": name, "config": json.dumps({}), "fingerprint": "", "seed": 0, "metric": "si_sdr"}
        )  # fmt: skip
        records = []
        for item in range(items):
            names = {("input", 0): 5}
            names |= {(f"target{s}", 0): target + i for i, s in enumerate(sources)}
            names |= {(f"estimate{s}", at): 90 + at + run for s in sources for at in updates}
            for (kind, at), seed in names.items():
                path = f"clips/item-{item:04d}/{kind}-{at}.wav"
                file = home.run_folder(run) / path
                file.parent.mkdir(parents=True, exist_ok=True)
                samples = np.random.default_rng([seed, item]).standard_normal(2000) * 0.1
                soundfile.write(file, samples, RATE_HZ, subtype="FLOAT")
                records.append(
                    ClipRecord(run, at, item=str(item), kind=kind, path=path, spectrogram="")
                )
        store.add_clips(records)
        values = [5.0 if at == best else 1.0 for at in updates]
        store.add_points(run, steps=list(updates), series={"si_sdr_ema": values}, units={})
        return run

    return add


def names(stimuli) -> list[tuple[str, str, str]]:
    return [(s.item, s.a.name, s.b.name) for s in stimuli]


def test_final_clips_of_two_runs(home, reader, clips):
    clips("one")
    clips("two", updates=(7, 30))
    sides = clips_of(home, reader, a="one", b="two", when="final")
    assert (sides.a, sides.b) == ("one at 20 updates", "two at 30 updates")
    assert names(sides.stimuli) == [
        ("item 0", "estimate-20.wav", "estimate-30.wav"),
        ("item 1", "estimate-20.wav", "estimate-30.wav"),
    ]


def test_the_best_evaluation_or_one_by_its_updates(home, reader, clips):
    clips("one")
    clips("two")
    assert clips_of(home, reader, a="one", b="two", when="best").a == "one at 10 updates"
    assert clips_of(home, reader, a="one", b="two", when="20").b == "two at 20 updates"
    with pytest.raises(
        ValueError, match="run one has no clips at 15; expected best, final, or 10, 20"
    ):
        clips_of(home, reader, a="one", b="two", when="15")


def test_each_source_is_an_item_and_all_have_one_input(home, reader, clips):
    clips("one", sources=(".voice", ".drums"), items=1)
    clips("two", sources=(".voice", ".drums"), items=1)
    both = clips_of(home, reader, a="one", b="two", when="final")
    assert [s.item for s in both.stimuli] == ["item 0, drums", "item 0, voice"]
    inputs = clips_of(home, reader, a="input", b="two", when="final")
    assert {s.a.name for s in inputs.stimuli} == {"input-0.wav"}
    assert inputs.a == "input"
    targets = clips_of(home, reader, a="one", b="target", when="final")
    assert names(targets.stimuli)[0] == (
        "item 0, drums",
        "estimate.drums-20.wav",
        "target.drums-0.wav",
    )


def test_runs_that_were_evaluated_on_other_items_are_refused(home, reader, clips):
    clips("one")
    clips("two", target=3)
    with pytest.raises(
        ClipsError, match=r"evaluated on different items .the target of item 0 differs"
    ):
        clips_of(home, reader, a="one", b="two", when="final")


def test_equal_targets_written_at_another_time_are_equal(home, reader, clips):
    # libsndfile writes the time into float WAV files, so their bytes differ.
    one, two = clips("one"), clips("two")
    path = home.run_folder(two) / "clips/item-0000/target-0.wav"
    data = bytearray(path.read_bytes())
    place = data.index(b"PEAK") + 12
    data[place : place + 4] = b"\0\0\0\1"
    path.write_bytes(data)
    assert path.read_bytes() != (home.run_folder(one) / "clips/item-0000/target-0.wav").read_bytes()
    assert len(clips_of(home, reader, a="one", b="two", when="final").stimuli) == 2


@pytest.mark.parametrize(
    ("a", "b", "problem"),
    [
        ("one", "bare", "run bare kept no clips"),
        ("one", "one", "one and one are the same run"),
        ("one", "other", "no clips of the same items and sources"),
    ],
)
def test_what_has_no_clips_in_common_is_refused(home, reader, clips, a, b, problem):
    clips("one")
    clips("other", sources=(".voice", ".drums"))
    clips("bare", updates=(), items=0)
    with pytest.raises(ValueError, match=problem):
        clips_of(home, reader, a=a, b=b, when="final")


def test_files_that_are_gone_are_named(home, reader, clips):
    clips("one")
    gone = home.run_folder(clips("two")) / "clips/item-0001/estimate-20.wav"
    gone.unlink()
    with pytest.raises(ClipsError, match=re.escape(f"files missing on disk: {gone}")):
        clips_of(home, reader, a="one", b="two", when="final")


def tone(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.sin(np.arange(2000) * 0.1), RATE_HZ)
    return path


def test_folders_pair_by_name_whatever_the_format(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    for path in (
        a / "x.wav",
        a / "deep" / "y.flac",
        a / "alone.wav",
        b / "x.flac",
        b / "deep" / "y.wav",
    ):
        tone(path)
    sides = files_of(a, b)
    assert names(sides.stimuli) == [("deep/y", "y.flac", "y.wav"), ("x", "x.wav", "x.flac")]
    assert sides.notes == ("skipped 1 file without a partner",)
    assert (sides.a, sides.b) == ("a", "b")
    assert len(files_of(a / "x.wav", b / "x.flac").stimuli) == 1


def test_paths_that_do_not_fit_are_refused(tmp_path):
    a, b = tone(tmp_path / "a" / "x.wav"), tone(tmp_path / "b" / "y.wav")
    with pytest.raises(ValueError, match="have the same name; rename"):
        files_of(a.parent, b.parent)
    with pytest.raises(ValueError, match="expected two files or two folders"):
        files_of(a, b.parent)


def test_outputs_of_models_pair_with_each_other_and_with_the_input(tmp_path):
    inputs = [tone(tmp_path / "in" / name) for name in ("a.b.wav", "c.wav")]
    one, two = tmp_path / "one", tmp_path / "two"
    for path in (
        one / "a.b.voice.wav",
        one / "c.voice.wav",
        two / "a.b.voice.wav",
        two / "a.b.noise.wav",
    ):
        tone(path)
    sides = applied_sides(("m", "n"), (one, two), inputs=inputs)
    assert [s.item for s in sides.stimuli] == ["a.b.voice"]
    sides = applied_sides(("input", "m"), (None, one), inputs=inputs)
    assert names(sides.stimuli) == [
        ("a.b.voice", "a.b.wav", "a.b.voice.wav"), ("c.voice", "c.wav", "c.voice.wav"),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="'target' is unknown for --audio"):
        applied_sides(("m", "target"), (one, None), inputs=inputs)
    assert files_to_apply(tmp_path / "in") == inputs
    with pytest.raises(ValueError, match="no audio files in"):
        files_to_apply(tmp_path / "nowhere")
