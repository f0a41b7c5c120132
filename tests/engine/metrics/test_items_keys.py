"""Metrics with items of their own are paired by those, whatever the others were measured on."""

from __future__ import annotations

from engine.metrics.items_keys import key_for, with_own


def test_a_metric_may_have_its_own_items():
    key = with_own("aa11", "probe_accuracy", own="bb22")
    assert key_for(key, "probe_accuracy") == key_for(key, "probe_accuracy_ema") == "bb22"
    assert key_for(key, "val_loss") == "aa11"
    assert key_for("aa11", "probe_accuracy") == "aa11"
    assert key_for(None, "probe_accuracy") is None
    assert key_for(with_own("cc33", "probe_accuracy", own="bb22"), "probe_accuracy") == "bb22"
