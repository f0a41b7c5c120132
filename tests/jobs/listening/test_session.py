"""Sessions: blind, recorded at once, continued."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys

import numpy as np
import pytest

from engine.config.errors import DataError
from jobs.listening.audio import Stimulus
from jobs.listening.records import FILE, read_sessions
from jobs.listening.results import result_of, results
from jobs.listening.session import prepare
from jobs.listening.sources import Sides, files_of
from jobs.machine.lease import LeaseError
from tests.jobs.listening.sounds import HEARD, answer_all, decoded, write_sides


def swapped(material):
    """The same material with A and B exchanged."""
    sides = material.sides
    stimuli = tuple(Stimulus(item.item, item.b, b=item.a) for item in sides.stimuli)
    return prepare(Sides(sides.b, sides.a, stimuli=stimuli), excerpt_s=material.excerpt_s)


def test_correct_answers_are_counted_and_lines_are_private(opened, tmp_path):
    with opened() as session:
        answer_all(session, correct=4)
        assert session.pending is None
        with pytest.raises(ValueError, match="all trials were answered"):
            session.sound("1")
    file = tmp_path / "listening" / FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(file.read_text().splitlines()) == 7
    (record,) = read_sessions(tmp_path / "listening")
    tally = record.tally()
    assert (tally.hits, tally.misses, tally.planned) == (4, 2, 6)
    assert record.level == "ITU-R BS.1770-4 loudness"


def test_x_sounds_like_one_of_both_but_is_not_the_same_bytes(opened):
    with opened(trials=12) as session:
        while (number := session.pending) is not None:
            files = {which: session.sound(which) for which in "12x"}
            assert len({len(data) for data in files.values()}) == 1
            assert len(set(files.values())) == 3
            apart = [np.abs(decoded(files[w]) - decoded(files["x"])).max() for w in "12"]
            assert min(apart) < 1e-6 < 1e-3 < max(apart)
            session.answer(number, "1", plays=HEARD, seconds=1)


def test_every_play_of_a_trial_sounds_the_same(opened):
    with opened() as session:
        assert session.sound("x") == session.sound("x")


def test_answers_need_all_sounds_and_the_pending_trial(opened):
    with opened() as session:
        with pytest.raises(ValueError, match="play 2 and X first"):
            session.answer(0, "1", plays={"1": 2}, seconds=1)
        with pytest.raises(ValueError, match="trial 2 is not pending; trial 1 is"):
            session.answer(1, "1", plays=HEARD, seconds=1)
        with pytest.raises(ValueError, match="unknown answer '0'; expected 1, 2"):
            session.answer(0, "0", plays=HEARD, seconds=1)
        with pytest.raises(ValueError, match="unknown sound 'y'"):
            session.sound("y")
        assert session.pending == 0


def test_the_same_call_continues_and_another_number_of_trials_is_refused(opened):
    with opened() as session:
        first = session.record.id
        session.answer(0, "1", plays=HEARD, seconds=1)
    with opened() as session:
        assert (session.record.id, session.pending) == (first, 1)
    with pytest.raises(ValueError, match=r"6 trials is open \(1 answered\).*leave out --trials"):
        opened(trials=9)
    with pytest.raises(ValueError, match="another seed is open"):
        opened(seed="8")
    with opened(listener="bob") as session:
        assert session.pending == 0


def test_continued_with_the_sides_exchanged_it_goes_on_as_it_began(opened, material, tmp_path):
    with opened() as session:
        before = [session.sound(which) for which in "12x"]
        session.answer(0, "1", plays=HEARD, seconds=1)
        expected = [session.sound(which) for which in "12x"]
    with opened(material=swapped(material)) as session:
        assert [session.sound(which) for which in "12x"] == expected != before
        assert session.record.a == "left"


def test_after_the_last_trial_a_new_session_has_another_order(opened, tmp_path):
    orders = []
    for _ in range(2):
        with opened(trials=30) as session:
            orders.append(session._trials)
            answer_all(session, correct=20)
    assert orders[0] != orders[1]
    (result,) = results(read_sessions(tmp_path / "listening"))
    (listener,) = result.listeners
    assert (listener.sessions, listener.outcome.tally.hits) == (2, 40)
    assert listener.outcome.method == "anytime"


def test_two_processes_cannot_answer_at_once(opened):
    with opened(), pytest.raises(LeaseError, match="a listening test is open in process"), opened():
        pass


def test_preferences_of_exchanged_sides_are_counted_for_the_same_side(opened, material, tmp_path):
    for number, sides in enumerate((material, swapped(material))):
        with opened("preference", material=sides, listener=f"l{number}", trials=8) as session:
            while (trial := session.pending) is not None:
                # Prefer the left folder, which is A, then B.
                wanted = "a" if number == 0 else "b"
                choice = "1" if session._trials[trial].first == wanted else "2"
                session.answer(trial, "0" if trial == 0 else choice, plays=HEARD, seconds=1)
    (result,) = results(read_sessions(tmp_path / "listening"))
    assert result.a == "left"
    tallies = [one.outcome.tally for one in result.listeners]
    assert [(t.hits, t.misses, t.ties) for t in tallies] == [(7, 0, 1), (7, 0, 1)]
    assert result.pooled is not None
    assert (result.pooled.tally.hits, result.pooled.finding) == (14, "heard")
    assert sum(item.hits for item in result.items) == 14


def test_a_line_that_was_cut_off_loses_its_trial_only(opened, tmp_path):
    with opened() as session:
        for number in (0, 1):
            session.answer(number, "1", plays=HEARD, seconds=1)
    file = tmp_path / "listening" / FILE
    file.write_bytes(file.read_bytes()[:-20])
    with opened() as session:
        assert session.pending == 1
        session.answer(1, "2", plays=HEARD, seconds=1)
    (record,) = read_sessions(tmp_path / "listening")
    assert [answer.trial for answer in record.answers] == [0, 1]


def test_foreign_and_future_lines_are_ignored(opened, tmp_path):
    with opened() as session:
        session.answer(0, "1", plays=HEARD, seconds=1)
    file = tmp_path / "listening" / FILE
    session_line = json.loads(file.read_text().splitlines()[0])
    lines = ["[1]", "nothing", "{}", json.dumps(session_line | {"version": 99, "id": "new"})]
    lines.append(json.dumps({"record": "answer", "session": session_line["id"], "trial": 1}))
    with file.open("a") as out:
        out.write("\n".join(lines) + "\n")
    (record,) = read_sessions(tmp_path / "listening")
    assert len(record.answers) == 1


_KILLED = """
import os, signal, sys
from pathlib import Path
from jobs.listening.session import Asked, open_session, prepare
from jobs.listening.sources import files_of
folder = Path(sys.argv[1])
material = prepare(files_of(folder / "left", folder / "right"), excerpt_s=10)
with open_session(folder / "listening", material, asked=Asked("abx", "ann", trials=6, seed="7")) as session:
    for number in range(3):
        session.answer(number, "1", plays={"1": 1, "2": 1, "x": 1}, seconds=1)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_kill_9_keeps_every_answer_and_the_session_goes_on(opened, tmp_path, repository):
    code = subprocess.run(
        [sys.executable, "-c", _KILLED, str(tmp_path)],
        cwd=repository,
        env={**os.environ},
        check=False,
    ).returncode
    assert code == -signal.SIGKILL
    with opened() as session:
        assert session.pending == 3
        answer_all(session, correct=6)
    (record,) = read_sessions(tmp_path / "listening")
    assert record.is_complete


def test_a_full_disk_keeps_the_trial_pending(opened, monkeypatch):
    with opened() as session:

        def full(*words):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("jobs.listening.session.add_answer", full)
        with pytest.raises(OSError, match="No space left"):
            session.answer(0, "1", plays=HEARD, seconds=1)
        assert session.pending == 0


def test_items_that_cannot_be_compared_are_left_out_with_a_note(tmp_path):
    a, b = write_sides(tmp_path)
    (b / "item1.wav").write_bytes((a / "item1.wav").read_bytes())
    material = prepare(files_of(a, b), excerpt_s=10)
    assert [item.item for item in material.sides.stimuli] == ["item0", "item2"]
    assert material.sides.notes == (
        "skipped item1: both sides are the same audio, so there is nothing to hear",
    )
    with pytest.raises(DataError, match="item0: both sides are the same audio"):
        prepare(files_of(a, a), excerpt_s=10)


def test_a_pair_is_its_audio_whatever_its_names(material, tmp_path):
    moved = tmp_path / "moved"
    write_sides(moved)
    again = prepare(files_of(moved / "right", moved / "left"), excerpt_s=10)
    assert again.pair == material.pair
    assert (again.a_key, again.b_key) == (material.b_key, material.a_key)
    assert result_of([], pair=again.pair, mode="abx") is None
    shorter = prepare(files_of(moved / "right", moved / "left"), excerpt_s=0.2)
    assert shorter.pair != material.pair


def test_a_session_begins_with_its_first_answer(opened, tmp_path):
    with opened(trials=9) as session:
        session.sound("x")
    assert read_sessions(tmp_path / "listening") == []
    with opened(trials=6) as session:
        session.answer(0, "1", plays=HEARD, seconds=1)
    assert [record.trials for record in read_sessions(tmp_path / "listening")] == [6]
