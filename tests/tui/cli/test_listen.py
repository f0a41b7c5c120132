"""`sepdash listen`: its messages, a session over HTTP as a child, results."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path

import pytest

from jobs.home import Home
from jobs.listening.session import Asked, open_session, prepare
from jobs.listening.sources import files_of
from jobs.store.writer import StoreWriter
from tests.jobs.listening.sounds import answer_all, write_sides
from tests.waiting import until


@pytest.fixture
def sides(tmp_path) -> tuple[str, str]:
    left, right = write_sides(tmp_path)
    return str(left), str(right)


def listened(sides, *, listener="ann", correct: int, trials=10) -> None:
    """A session that was answered."""
    material = prepare(files_of(*map(Path, sides)), excerpt_s=10)
    asked = Asked("abx", listener, trials=trials)
    with open_session(Home.locate(None).listening, material, asked=asked) as session:
        answer_all(session, correct=correct)


def test_no_tests_yet(sepdash):
    answer = sepdash("listen", "--results")
    assert (answer.code, answer.out) == (0, "")
    assert "no listening tests yet; start one with `sepdash listen A B`" in answer.err
    assert sepdash("listen", "--results", "--json").out.strip() == "[]"


def test_results_of_one_and_of_several_listeners(sepdash, sides):
    listened(sides, correct=10)
    lines = sepdash("listen", "--results").out.splitlines()
    assert lines[0] == "ABX: A = left, B = right"
    assert lines[1] == (
        "ann hears a difference: 10 of 10 correct (100%, 95% interval 69% to 100%)."
    )
    assert lines[2].startswith("By item (correct): item0 ")
    assert lines[3:] == ["Levels matched: ITU-R BS.1770-4 loudness."]

    listened(sides, listener="bob", correct=5)
    out = sepdash("listen", "--results", "left").out
    assert "bob: Undecided after 10 trials: 5 of 10 correct" in out
    assert "All 2 listeners: 15 of 20 correct" in out
    assert "20 trials of 2 listeners, not 20 listeners" in out
    none = sepdash("listen", "--results", "nobody")
    assert none.out == ""
    assert "no listening tests of nobody; `sepdash listen --results` lists all" in none.err

    (found,) = json.loads(sepdash("listen", "--results", "--json").out)
    assert [one["outcome"]["finding"] for one in found["listeners"]] == ["heard", "undecided"]
    assert found["listeners"][0]["statement"].startswith("ann hears a difference")
    assert found["pooled"]["tally"]["hits"] == 15


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("{left}", "{right}", "--player", "sh", "--no-such"), "no such option"),
        ((), "expected two sides, A and B; or --results"),
        (("input", "target"), "at least one of A and B must be a run"),
        (("{left}", "nothing"), "is a path: expected another one to compare it with, or two runs"),
        (("{left}", "{left}"), "both sides are the same audio"),
        (("{left}", "{right}", "--player", "sh"), "a listening test requires a terminal; or use --browser"),
        (("{left}", "{right}", "--mode", "xyz"), "'xyz' is not one of 'abx', 'preference'"),
        (("{left}", "{left}/nowhere"), "no run, file or folder"),
        (("nothing", "more"), "no run 'nothing'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_message(sepdash, sides, words, problem):
    left, right = sides
    # No test has a terminal; all but one message must come without one.
    words = words if not words or "sh" in words else (*words, "--browser")
    answer = sepdash("listen", *(word.format(left=left, right=right) for word in words))
    assert answer.code == 2
    assert problem in answer.err
    assert "Traceback" not in answer.err


def test_runs_without_clips_name_the_command_that_helps(sepdash):
    with StoreWriter(Home.locate(None).create().store) as store:
        for name in ("one", "two"):
            store.insert_run({"name": name, "config": "{}", "fingerprint": "", "seed": 0})
    answer = sepdash("listen", "one", "two", "--browser")
    assert answer.code == 2
    assert "run one kept no clips" in answer.err
    assert "sepdash listen one two --audio FOLDER" in answer.err


def test_a_session_in_the_browser_is_served_saved_and_continued(spawn, sides, tmp_path):
    outcomes = []
    for _ in range(2):
        process = spawn(
            "listen", *sides, "--browser", "--trials", "2", "--seed", "3", "--listener", "ann"
        )
        url = re.search(r"http://127\.0\.0\.1:\d+/[\w-]+/", process.stdout.readline())[0]
        assert process.stdout.readline().startswith("From another machine, first: ssh -L ")
        command = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert url.encode() not in command
        state = json.loads(urllib.request.urlopen(f"{url}state").read())
        outcomes.append(state["trial"])
        _post(url, "answer", {"trial": state["trial"], "choice": "1", "plays": {"1": 1, "2": 1, "x": 1}, "seconds": 1})  # fmt: skip
        if not state["trial"]:
            _post(url, "end", {})
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert ("stopped after 1 of 2 trials; the same command continues" in err) == (
            not state["trial"]
        )
    assert outcomes == [0, 1]
    assert "You: " in out or "Undecided after 2 trials" in out
    assert "A = left, B = right" in out


def _post(url: str, path: str, value: dict) -> None:
    request = urllib.request.Request(
        url + path, json.dumps(value).encode(), {"Content-Type": "application/json"}
    )
    assert urllib.request.urlopen(request).status == 200


def test_ctrl_c_ends_the_server_and_says_what_goes_on(spawn, sides):
    import signal

    process = spawn("listen", *sides, "--browser", "--trials", "2")
    assert process.stdout.readline().startswith("Open http://127.0.0.1:")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert "stopped after 0 of 2 trials; the same command continues" in err
    assert "Traceback" not in err
    until(lambda: process.poll() is not None, "ended")


def test_earlier_sessions_are_named_when_a_new_one_begins(spawn, sides):
    listened(sides, correct=10)
    process = spawn("listen", *sides, "--browser", "--listener", "ann", "--trials", "8")
    assert process.stdout.readline().startswith("Open http://127.0.0.1:")
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert "note: 10 trials of an earlier session count, too\n" in err
    assert "8 trials: 8 or more correct answers show a difference.\n" in err
