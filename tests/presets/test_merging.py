from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presets.merging import difference, merge


def test_merge_goes_section_by_section() -> None:
    base = {"seed": 0, "optimizer": {"lr": 1, "eps": 2}}
    top = {"optimizer": {"lr": 3}}
    assert merge(base, top) == {"seed": 0, "optimizer": {"lr": 3, "eps": 2}}


def test_another_kind_starts_its_section_afresh() -> None:
    base = {"model": {"kind": "audio_unet", "width": 16}}
    top = {"model": {"kind": "conv_tasnet", "features": 64}}
    assert merge(base, top) == top


def test_another_kind_of_schedule_keeps_the_length() -> None:
    base = {"schedule": {"kind": "exponential", "length": "50 updates"}}
    top = {"schedule": {"kind": "cosine"}}
    assert merge(base, top) == {"schedule": {"kind": "cosine", "length": "50 updates"}}


def test_the_same_kind_is_no_fresh_start() -> None:
    base = {"model": {"kind": "audio_unet", "width": 16}}
    top = {"model": {"kind": "audio_unet", "norm": "group"}}
    assert merge(base, top)["model"] == {"kind": "audio_unet", "width": 16, "norm": "group"}


def test_merge_leaves_its_arguments_alone() -> None:
    base: dict[str, Any] = {"model": {"strides": [2, 2]}}
    result = merge(base, {"seed": 1})
    result["model"]["strides"].append(8)
    assert base == {"model": {"strides": [2, 2]}}


@pytest.mark.parametrize(
    ("base", "values", "expected"),
    [
        ({"a": 1}, {"a": 1}, {}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"s": {"a": 1, "b": 2}}, {"s": {"a": 1, "b": 3}}, {"s": {"b": 3}}),
        ({"s": {"a": 1}}, {"s": {}}, None),
        ({"s": {"a": 1}}, {}, None),
        ({"model": {"kind": "x", "a": 1}}, {"model": {"kind": "y"}}, {"model": {"kind": "y"}}),
        ({"loss": {"kind": "x", "a": 1}}, {"loss": {"kind": "y"}}, {"loss": {"kind": "y"}}),
        ({"schedule": {"kind": "x", "a": 1}}, {"schedule": {"kind": "y"}}, None),
    ],
)
def test_difference_by_hand(base: Any, values: Any, expected: Any) -> None:
    assert difference(base, values) == expected


_plain = st.integers() | st.booleans() | st.lists(st.integers(), max_size=2)
_section = st.dictionaries(st.sampled_from("ab"), _plain) | st.fixed_dictionaries(
    {"kind": st.sampled_from("xy")}, optional={"a": _plain}
)
_values = st.dictionaries(st.sampled_from(["model", "loss", "seed"]), _plain | _section)


@given(_values, _values)
def test_difference_merges_back_or_says_that_it_can_not(base: Any, values: Any) -> None:
    top = difference(base, values)
    assert top is None or merge(base, top) == values


def test_settings_of_the_spectral_loss_beside_another_one_wait_for_it_as_they_did():
    base = {"loss": {"kind": "si_sdr", "windows": [64], "reduction": "sum"}}
    assert merge(base, {"loss": {"kind": "spectral", "reduction": "mean"}}) == {
        "loss": {"kind": "spectral", "windows": [64], "reduction": "mean"}
    }
    assert merge(base, {"loss": {"kind": "l1"}}) == {"loss": {"kind": "l1"}}
    other = {"loss": {"kind": "mine", "windows": [64]}}
    assert merge(other, {"loss": {"kind": "spectral"}}) == {"loss": {"kind": "spectral"}}
