"""What `sepdash doctor` finds out about a machine and its store."""

from __future__ import annotations

import sqlite3

import pytest

from tui.cli import health


def test_a_store_from_a_newer_program_is_named_once(home) -> None:
    home.create()
    with sqlite3.connect(home.store) as store:
        store.execute("PRAGMA user_version = 99")
    found = [check for check in health._store(home) if check.verdict == "problem"]
    assert len(found) == 1
    assert "written by a newer sepdash" in found[0].text
    assert found[0].text.count(str(home.store)) == 1


@pytest.mark.parametrize("installed", [True, False])
def test_optional_metrics_are_listed(monkeypatch, installed):
    monkeypatch.setattr(
        "engine.metrics.measures.find_spec",
        lambda name: object() if installed or name == "pystoi" else None,
    )
    check, *_ = health._extras()
    assert (check.area, check.name) == ("extras", "speech-metrics")
    if installed:
        assert (check.verdict, check.text) == ("ok", "metrics: pesq, pesq_nb, stoi, estoi, dnsmos")
    else:
        assert check.verdict == "note"
        assert check.text == (
            "metrics: stoi, estoi; not available: pesq, pesq_nb, dnsmos (pip install 'sepdash[speech-metrics]')"
        )


def test_what_texts_need_is_listed(monkeypatch) -> None:
    monkeypatch.setattr("engine.text.numbers.find_spec", lambda name: object())
    monkeypatch.setattr("engine.text.phonemes.find_spec", lambda name: None)
    *_, phonemes, numbers = health._extras()
    assert (phonemes.name, phonemes.verdict, numbers.name, numbers.verdict) == (
        "phonemes", "note", "numbers", "ok",
    )  # fmt: skip
    assert phonemes.text == (
        "phonemes as tokens; not available: requires the package phonemizer, which is not installed: pip install "
        "'sepdash[phonemes]'"
    )
    assert numbers.text == "numbers as words"
