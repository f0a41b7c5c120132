"""What is written: no control sequence, no encoding error, whatever the text and the stream."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.terminal import harmless

SEQUENCES = [
    "\x1b[31m", "\x1b[2J", "\x1b]0;title\x07", "\x1b]8;;http://x\x1b\\", "\x1bP1;2q\x1b\\", "\x1bc", "\x1b(0", "\x9b2J",
    "\x1b[?1049h", "\x07", "\x08", "\x7f", "\x00", "\x85", "\u202e", "\u2066", "\x1b", "\x1b]52;c;aGk=\x07",
]  # fmt: skip


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_sequences_are_taken_out(sequence: str) -> None:
    assert harmless(f"a{sequence}b\n").replace("]0;title", "") in ("ab\n", "a2Jb\n", "a\n")


@given(st.text(st.characters(codec=None), max_size=40))
def test_nothing_that_a_terminal_acts_on_is_left(text: str) -> None:
    left = harmless(text)
    assert not any(ord(sign) < 32 and sign not in "\n\t\r" for sign in left)
    assert not any(0x7F <= ord(sign) <= 0x9F for sign in left)
    assert "\r" not in left[1:]
    assert harmless(left) == left or "\r" in left


def test_words_of_all_scripts_stay() -> None:
    text = "naïve 日本語 👩‍👩‍👧 a\u00a0b\u3000c\tд\n"
    assert harmless(text) == text
    assert harmless("\rchecked 3 of 4") == "\rchecked 3 of 4"
    assert harmless("a\r\nb\r\n") == "a\nb\n"


WRITE = """
import sys
from models.terminal import safe_streams
import click
with safe_streams():
    click.echo("a – b → ö … \\udce9 \\x1b[31m│日")
    sys.stderr.write("– x\\n")
"""


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", "a – b → ö … \\xe9 │日\n"),
        ("latin-1", "a - b > ö . \\xe9 |?\n"),
        ("ascii", "a - b > ? . \\xe9 |?\n"),
        ("koi8-r", "a - b > ? . \\xe9 │?\n"),
    ],
)
def test_each_encoding_gets_what_it_can_hold(encoding: str, expected: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", WRITE], env={"PYTHONIOENCODING": encoding}, capture_output=True,
        check=True,
    )  # fmt: skip
    assert run.stdout.decode(encoding) == expected
    assert run.stderr.decode(encoding) == ("– x\n" if encoding == "utf-8" else "- x\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_error(closed: str) -> None:
    command = f'"{sys.executable}" -c "$0" {closed}'
    run = subprocess.run(["/bin/sh", "-c", command, WRITE], capture_output=True, check=False)
    assert run.returncode == 0
    assert b"Traceback" not in run.stderr + run.stdout
