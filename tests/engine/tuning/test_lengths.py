"""Items of different lengths: what is chosen fits at every length, and is checked where it is fullest."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from engine.config.loading import load_config
from engine.config.losses import RnntLoss
from engine.config.voice import VoiceLoss
from engine.tuning.lengths import cost, count_at
from engine.tuning.search import search
from engine.tuning.setups import Options, TuningError
from engine.tuning.trials import Case

MIB = 2**20
# An example of a search is as good as a smaller one, and shrinking takes minutes.
NO_SHRINKING = (Phase.explicit, Phase.generate)
FACTS = {
    "lengths_s": (1.0, 8.0, 16.0), "tokens": (10.0, 60.0, 120.0), "mean_s": 8.0, "mean_tokens": 50.0,
    "num_items": 1000,
}  # fmt: skip


def speech(**batch: Any):
    return load_config(
        {
            "data": {"kind": "speech", "train": "t.jsonl", "valid": "v.jsonl"},
            "model": {"kind": "conformer_rnnt"},
            "loss": {"kind": "rnnt"},
            "batch": {"items": 256, "micro_batch": 4, **batch},
        }
    )


def found_by(device, config, **asked):
    result = search(config, Options(**asked), measurer=device, emit=lambda row: None)
    values = config.to_dict()
    for key, value in result.settings.items():
        section, name = key.split(".")
        values[section][name] = value
    return result, load_config(values).to_dict()


def peaks(device, values, lengths):
    for length in lengths:
        tokens = next(
            u for end, u in zip(FACTS["lengths_s"], FACTS["tokens"], strict=True) if length <= end
        )
        count = count_at(values["batch"], length, tokens)
        yield count, device.peak(Case(values, count, shape=(length, tokens)))


LENGTHS = [1.0 + 15 * i / 200 for i in range(201)]


@given(
    per_s=st.integers(1, 200), per_s2=st.integers(0, 20), joint=st.integers(0, 2000),
    per_item=st.integers(0, 50),
)  # fmt: skip
@settings(
    max_examples=40,
    deadline=None,
    phases=NO_SHRINKING,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_what_is_chosen_fits_at_every_length(new_device, per_s, per_s2, joint, per_item) -> None:
    device = new_device(
        total=16 * 1024 * MIB, per_item=per_item * MIB, per_s=per_s * MIB, per_s2=per_s2 * MIB,
        joint=joint * 1024, facts=FACTS,
    )  # fmt: skip
    try:
        result, values = found_by(device, speech())
    except TuningError:
        assert (
            device.peak(Case(speech().to_dict(), 2, shape=(16.0, 120.0))) > 0.85 * 16 * 1024 * MIB
        )
        return
    found = list(peaks(device, values, LENGTHS))
    assert max(peak for _, peak in found) <= result.budget_bytes
    assert min(count for count, _ in found) >= 1
    assert abs(result.law_error) < 1e-3
    assert result.peak_bytes <= result.budget_bytes


def test_memory_that_bends_gets_the_quadratic_cost(new_device) -> None:
    device = new_device(per_item=0, per_s=20 * MIB, per_s2=2 * MIB, facts=FACTS)
    result, values = found_by(device, speech())
    assert result.settings["batch.quadratic_s"] == pytest.approx(10)
    filled = [peak / result.budget_bytes for _, peak in peaks(device, values, [4.0, 8.0, 16.0])]
    assert min(filled) > 0.8
    straight = new_device(per_item=0, per_s=20 * MIB, facts=FACTS)
    assert found_by(straight, speech())[0].settings["batch.quadratic_s"] is None


def test_three_edges_are_checked_in_the_end(new_device) -> None:
    result, _ = found_by(new_device(per_s=20 * MIB, facts=FACTS), speech())
    checks = [row for row in result.rows if row.label.startswith("check")]
    assert [row.label for row in checks] == [
        "check: longest items", "check: highest-memory items", "check: shortest items",
    ]  # fmt: skip
    assert [checks[0].shape[0], checks[2].shape[0]] == [16.0, 1.0]
    assert result.peak_bytes == max(row.peak_bytes for row in checks)


def test_what_the_law_did_not_foresee_is_made_smaller(new_device) -> None:
    device = new_device(per_s=20 * MIB, facts={**FACTS, "has_2d": True},
                        factors={("precision.channels_last", True): 0.5},
                        memory={("precision.channels_last", True): 1.5})  # fmt: skip
    result, values = found_by(device, speech())
    assert result.settings["precision.channels_last"] is True
    assert max(peak for _, peak in peaks(device, values, LENGTHS)) <= result.budget_bytes
    assert len([row for row in result.rows if row.label.startswith("check")]) >= 6


def test_a_preset_that_the_law_let_in_by_mistake_is_made_smaller(new_device) -> None:
    class Unlawful(new_device):
        def peak(self, case: Case) -> float:
            found = super().peak(case)
            return 4.5 * found if case.shape == (16.0, 120.0) and case.count > 2 else found

    device = Unlawful(per_s=20 * MIB, call_s=1e-6, facts=FACTS)
    result, values = found_by(device, speech(cap_s=100.0, micro_batch=16, items=252))
    assert result.settings["batch.cap_s"] < 100
    assert max(peak for _, peak in peaks(device, values, [16.0])) <= result.budget_bytes


def test_a_check_without_time_says_so_and_changes_nothing(new_device) -> None:
    device = new_device(per_s=20 * MIB, call_s=1e-6, facts=FACTS, late=True)
    result, _ = found_by(device, speech(cap_s=100.0, micro_batch=16, items=252))
    assert result.settings == {}
    assert result.law_error is None
    assert len([row for row in result.rows if row.label.startswith("check")]) == 3
    assert [note for note in result.notes if "were not checked at every length" in note]


def test_slices_are_tried_where_the_joint_network_is_large(new_device) -> None:
    device = new_device(per_s=MIB, per_item=MIB, joint=MIB // 4, call_s=1.0, facts=FACTS)
    result, values = found_by(device, speech())
    assert values["batch"]["split"] == 8
    assert values["batch"]["cap_s"] > 4 * 16.0
    assert max(peak for _, peak in peaks(device, values, LENGTHS)) <= result.budget_bytes
    kept, _ = found_by(device, speech(), keep=("batch.split",))
    assert "batch.split" not in kept.settings


def test_slices_are_not_tried_for_a_loss_that_has_none(new_device, monkeypatch) -> None:
    """A voice, whose memory grows with seconds times tokens, too: `batch.split` does nothing there."""
    monkeypatch.setattr(RnntLoss, "in_slices", False)
    device = new_device(per_s=MIB, per_item=MIB, joint=MIB // 4, call_s=1.0, facts=FACTS)
    result, _ = found_by(device, speech())
    assert not [row.label for row in result.rows if "split" in row.label]
    assert not VoiceLoss.in_slices


@pytest.mark.parametrize(
    ("asked", "expected"),
    [({"items": 512}, ("items", 512)), ({"seconds": 3600.0}, ("seconds", 3600.0)),
     ({"tokens": 5000.0}, ("items", 100))],
)  # fmt: skip
def test_the_goal_is_kept_exactly(asked, expected, new_device) -> None:
    _, values = found_by(new_device(per_s=20 * MIB, facts=FACTS), speech(), **asked)
    name, value = expected
    assert values["batch"][name] == value


def test_every_mode_gets_what_it_heeds(new_device) -> None:
    device = new_device(per_s=20 * MIB, joint=10 * 1024, call_s=1.0, facts=FACTS)
    fixed, _ = found_by(device, speech(mode="fixed", accumulation=8))
    assert "batch.cap_s" not in fixed.settings
    assert fixed.settings["batch.micro_batch"] >= 1
    dyn, values = found_by(device, speech(mode="1D-bucketing-dyn", cap_s=20.0), seconds=3600.0)
    count = count_at(values["batch"], 8.0, 60.0)
    assert dyn.settings["batch.accumulation"] == round(450 / count)
    both, values = found_by(device, speech(mode="2D-bucketing", cap_s=20.0, accumulation=128))
    assert both.settings["batch.joint_tokens"] > 0
    assert max(peak for _, peak in peaks(device, values, LENGTHS)) <= both.budget_bytes
    ends = [[4.0, 30], [8.0, 60], [16.0, 120]]
    bins, values = found_by(
        device,
        speech(mode="2D-bucketing-fixed", bin_ends=ends, bin_items=[1, 1, 1], accumulation=512),
    )
    items = bins.settings["batch.bin_items"]
    assert items == sorted(items, reverse=True)
    for (length, tokens), count in zip(ends, items, strict=True):
        assert device.peak(Case(values, count, shape=(length, tokens))) <= bins.budget_bytes
        assert (
            device.peak(Case(values, count + 1, shape=(length, tokens))) > 0.98 * bins.budget_bytes
        )


def test_a_preset_that_is_as_fast_and_fits_is_left_as_it_is(new_device) -> None:
    device = new_device(per_s=20 * MIB, call_s=1e-6, facts=FACTS)
    result, _ = found_by(device, speech(cap_s=100.0, micro_batch=16, items=252))
    assert result.settings == {}
    too_much, values = found_by(device, speech(micro_batch=64))
    assert max(peak for _, peak in peaks(device, values, LENGTHS)) <= too_much.budget_bytes


def test_cost_is_that_of_the_plans() -> None:
    assert cost(10.0, 50.0, None, None) == 10
    assert cost(10.0, 50.0, 20.0, None) == 15
    assert cost(10.0, 50.0, 20.0, 100.0) == 22.5
