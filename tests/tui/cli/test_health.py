"""What `sepdash doctor` finds out about a machine and its store."""

from __future__ import annotations

import sqlite3

from tui.cli import health


def test_a_store_from_a_newer_program_is_named_once(home) -> None:
    home.create()
    with sqlite3.connect(home.store) as store:
        store.execute("PRAGMA user_version = 99")
    found = [check for check in health._store(home) if check.verdict == "problem"]
    assert len(found) == 1
    assert "written by a newer sepdash" in found[0].text
    assert found[0].text.count(str(home.store)) == 1
