"""Probes of features: chance for random labels, no leak from a speaker left out, splits by take."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from engine.data.files.audio_files import AudioInfo
from engine.data.speech.labelled import Labelled, Part, Recording
from engine.probing.bench import Collector, Grid, chance, left_out_score, score

GRID = Grid(0.02, 0.0125)


def recordings(*, speakers=4, words=5, takes=12, tested=4):
    found = []
    for speaker, word, take in product(range(speakers), range(words), range(takes)):
        info = AudioInfo(Path(f"/{speaker}/{word}_{take}"), 6_400, rate_hz=16_000, channels=1)
        split = "test" if take < tested else "train"
        found.append(
            Recording(info, 0.0, 0.4, speaker=f"s{speaker}", unit=f"s{speaker} {take}", split=split,
                      parts=(Part(f"w{word}", 0.0, 0.4),))
        )  # fmt: skip
    return Labelled(tuple(found), rule="")


def fill(collector, labelled, frames_of):
    for item in labelled.recordings:
        collector.add([frames_of(item)])
    return collector


def informative(seed=0, *, word=2.0, speaker=2.0, dims=12):
    """Return frames that say the word and the speaker, with noise of 1."""
    draw = np.random.default_rng(seed)
    codes = {f"{kind}{k}": draw.normal(size=dims) for kind in "ws" for k in range(8)}

    def frames_of(item):
        base = word * codes[item.parts[0].label] + speaker * codes[item.speaker]
        return (base + draw.normal(size=(19, dims))).astype(np.float32)

    return frames_of


def test_features_that_say_word_and_speaker_are_read():
    labelled = recordings()
    collector = fill(Collector(labelled, GRID), labelled, informative())
    found = collector.measure(0)
    for name in ("word_mean", "word_segments", "speaker_mean"):
        assert found.scores[name].value > 0.95, name
    # What says the speaker moves words of a new one.
    assert 0.6 < found.scores["left_out_mean"].value < 0.95
    assert found.scores["abx_within"].value < 0.2
    assert found.held_out > 0.95
    units = found.scores["word_mean"].units
    assert len(units) == 16
    assert np.mean(list(units.values())) == pytest.approx(found.scores["word_mean"].value)


def test_random_features_give_chance():
    labelled = recordings(takes=24, tested=12)
    collector = fill(Collector(labelled, GRID), labelled, informative(word=0.0, speaker=0.0))
    found = collector.measure(0).scores
    # 240 test items at 1/5 and 1/4: four standard deviations.
    assert found["word_mean"].value == pytest.approx(0.2, abs=0.105)
    assert found["left_out_segments"].value == pytest.approx(0.2, abs=0.105)
    assert found["speaker_segments"].value == pytest.approx(0.25, abs=0.115)
    assert found["abx_within"].value == pytest.approx(0.5, abs=0.05)
    assert found["abx_across"].value == pytest.approx(0.5, abs=0.05)


def test_random_labels_give_chance():
    labelled = recordings(takes=24, tested=12)
    collector = fill(Collector(labelled, GRID), labelled, informative())
    task = collector._word_task
    draw = np.random.default_rng(1)
    from dataclasses import replace

    shuffled = replace(task, labels=tuple(draw.permutation(task.labels).tolist()))
    x_ND = np.stack(collector._layers[0].pooled["mean"])
    assert score(x_ND, task)[0].value > 0.95
    assert score(x_ND, shuffled)[0].value == pytest.approx(chance(shuffled), abs=0.105)


def test_nothing_of_a_speaker_left_out_reaches_the_probe(monkeypatch):
    """What the others' probe is trained on holds no item of the speaker: features, labels, scaling."""
    labelled = recordings()
    collector = fill(Collector(labelled, GRID), labelled, informative())
    task = collector._word_task
    x_ND = np.stack(collector._layers[0].pooled["mean"])
    before = left_out_score(x_ND, task)
    # Poison the training takes of one speaker: its own test items must be answered as before.
    poisoned_ND = x_ND.copy()
    of_it = np.array([name == "s1" for name in task.speakers])
    poisoned_ND[of_it & ~task.is_test_N] = 1e6 * np.random.default_rng(0).normal(size=x_ND.shape[1])
    after = left_out_score(poisoned_ND, task)
    own = {unit for unit in before.units if unit.startswith("s1 ")}
    assert {k: after.units[k] for k in own} == {k: before.units[k] for k in own}
    assert any(after.units[k] != before.units[k] for k in before.units if k not in own)


def test_test_items_never_train_a_probe():
    labelled = recordings()
    collector = fill(Collector(labelled, GRID), labelled, informative(word=0.5))
    task = collector._word_task
    assert not (task.held_out_N & task.is_test_N).any()
    train_units = {u for u, t in zip(task.units, task.is_test_N, strict=True) if not t}
    test_units = {u for u, t in zip(task.units, task.is_test_N, strict=True) if t}
    assert not train_units & test_units
    x_ND = np.stack(collector._layers[0].pooled["mean"])
    some = np.flatnonzero(task.is_test_N)[:7]
    moved_ND = x_ND.copy()
    moved_ND[some] += 1e5
    first, second = score(x_ND, task)[0], score(moved_ND, task)[0]
    untouched = {task.units[k] for k in np.flatnonzero(task.is_test_N)} - {
        task.units[k] for k in some
    }
    assert {k: first.units[k] for k in untouched} == {k: second.units[k] for k in untouched}


def test_clusters_of_frames_that_say_the_word_agree_with_it():
    from engine.probing.kmeans import fitter

    labelled = recordings(speakers=2, words=3)
    found = {}
    for word in (0.0, 3.0):
        collector = Collector(
            labelled, GRID, fit_clusters=fitter(6, seed=0), num_clusters=6, measures=("pnmi",)
        )
        fill(collector, labelled, informative(word=word, speaker=0.5))
        found[word] = collector.measure(0).scores
    assert found[3.0]["pnmi"].value > 0.8
    assert found[3.0]["purity"].value > 0.9
    assert found[0.0]["pnmi"].value < 0.1


def test_without_speakers_only_words_are_probed():
    from dataclasses import replace

    labelled = recordings(speakers=1)
    nameless = Labelled(tuple(replace(i, speaker="") for i in labelled.recordings), rule="")
    collector = fill(Collector(nameless, GRID), nameless, lambda item: np.ones((19, 3)))
    assert set(collector.measure(0).scores) == {"word_mean", "word_segments", "abx_within"}
