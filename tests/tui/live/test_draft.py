from __future__ import annotations

from typing import Any

import pytest

from engine.config.fields import SettingInfo, list_settings
from presets.catalogue import Catalogue
from presets.merging import merge
from tui.live.draft import Draft, read_text, write_text


@pytest.fixture
def draft() -> Draft:
    return Draft("denoise/small", Catalogue().read("denoise/small"))


def test_a_setting_of_an_old_preset_is_shown_under_its_new_name() -> None:
    values = merge(Catalogue().read("denoise/small"), {"validation": {"samples": 3}})
    old = Draft("mine", values)
    assert {s.info.key: s.text for s in old.fields()}["validation.clips"] == "3"
    assert old.changes == []
    assert "samples" not in old.values["validation"]


def info(draft: Draft, key: str) -> SettingInfo:
    return next(state.info for state in draft.fields() if state.info.key == key)


def text(draft: Draft, key: str) -> str:
    return next(state.text for state in draft.fields() if state.info.key == key)


def edit(draft: Draft, key: str, value: str) -> None:
    draft.edit(info(draft, key), value)


def test_fields_are_those_of_the_chosen_kinds_with_the_kind_first(draft: Draft) -> None:
    keys = [state.info.key for state in draft.fields()]
    assert keys[:3] == ["data.kind", "data.train", "data.valid"]
    assert "data.noise" in keys
    assert "data.targets" not in keys
    assert keys[-1] == "seed"


def test_a_preset_starts_unchanged_and_sound(draft: Draft) -> None:
    assert draft.changes == []
    assert draft.check().config is not None


def test_an_edit_is_checked_marked_and_taken_back(draft: Draft) -> None:
    edit(draft, "optimizer.lr", "1e-4")
    config = draft.check().config
    assert config is not None
    assert config.optimizer.lr == 1e-4
    assert draft.changes == ["optimizer.lr"]
    draft.reset(info(draft, "optimizer.lr"))
    assert draft.changes == []


def test_typing_the_same_value_is_no_change(draft: Draft) -> None:
    edit(draft, "optimizer.lr", "0.003")
    edit(draft, "model.strides", "[2, 2, 8, 8]")
    edit(draft, "precision.tf32", "false")
    assert draft.changes == []


@pytest.mark.parametrize(
    ("key", "typed", "problem"),
    [
        ("optimizer.lr", "fast", "found 'fast'"),
        ("optimizer.lr", "-1", "expected a number > 0, <= 10, found -1"),
        ("data.channels", "3", "expected a whole number >= 1, <= 2"),
        ("model.strides", "2, x", "found 'x'"),
        ("schedule.length", "many", "like '1000 updates'"),
        ("data.train", "", "is required"),
    ],
)
def test_a_problem_belongs_to_its_field(draft: Draft, key: str, typed: str, problem: str) -> None:
    edit(draft, key, typed)
    verdict = draft.check()
    assert verdict.config is None
    assert list(verdict.problems) == [key]
    assert problem in verdict.problems[key]
    assert verdict.count == 1


def test_all_problems_come_at_once(draft: Draft) -> None:
    edit(draft, "optimizer.lr", "fast")
    edit(draft, "batch.items", "0")
    assert set(draft.check().problems) == {"optimizer.lr", "batch.items"}


def test_a_problem_of_two_settings_is_general(draft: Draft) -> None:
    edit(draft, "data.snr_low_db", "30")
    verdict = draft.check()
    assert verdict.problems == {}
    assert "snr_low_db = 30.0 is above snr_high_db = 15.0" in verdict.general[0]


def test_an_unknown_key_of_a_preset_is_general() -> None:
    values = merge(Catalogue().read("denoise/small"), {"optimizer": {"lrr": 1}})
    verdict = Draft("mine", values).check()
    assert verdict.general == ("optimizer.lrr: unknown setting, did you mean 'lr'?",)


def test_another_kind_keeps_what_both_have_and_drops_the_rest(draft: Draft) -> None:
    edit(draft, "data.kind", "stems")
    assert text(draft, "data.train") == "data/vctk/train"
    assert text(draft, "data.rate_hz") == "16000"
    assert text(draft, "data.targets") == "vocals"
    assert "noise" not in draft.values["data"]
    assert draft.check().config is not None
    draft.reset(info(draft, "data.kind"))
    assert draft.changes == []


def test_a_loss_that_no_preset_names_is_that_of_the_data_and_has_its_settings() -> None:
    values = Catalogue().read("denoise/audio-unet")
    values.pop("loss", None)
    draft = Draft("mine", values)

    def shown() -> list[tuple[str, str]]:
        return [(s.info.key, s.text) for s in draft.fields() if s.info.key.startswith("loss.")]

    spectral = [
        ("loss.kind", "spectral"),
        ("loss.windows", "2048, 1024, 512, 256, 128, 64, 32"),
        ("loss.reduction", "mean"),
    ]
    assert shown() == spectral
    edit(draft, "loss.reduction", "sum")
    edit(draft, "loss.kind", "si_sdr")
    assert shown() == [("loss.kind", "si_sdr")]
    assert draft.changes == ["loss.kind"]
    assert draft.to_save() == ({"loss": {"kind": "si_sdr"}}, "mine")
    draft.reset(info(draft, "loss.kind"))
    assert shown() == spectral
    edit(draft, "data.kind", "speech")
    assert shown() == [("loss.kind", "rnnt")]


def test_what_is_saved_is_only_what_changed(draft: Draft) -> None:
    edit(draft, "optimizer.lr", "1e-4")
    edit(draft, "seed", "7")
    assert draft.to_save() == ({"optimizer": {"lr": 1e-4}, "seed": 7}, "denoise/small")


def test_a_setting_taken_out_is_saved_as_an_empty_one(draft: Draft) -> None:
    edit(draft, "ema.restart_at", "")
    config = draft.check().config
    assert config is not None
    assert config.ema.restart_at is None
    assert draft.to_save() == ({"ema": {"restart_at": "none"}}, "denoise/small")


def test_a_setting_that_is_never_empty_taken_out_makes_the_saved_preset_stand_alone(
    draft: Draft,
) -> None:
    edit(draft, "optimizer.lr", "")
    values, extends = draft.to_save()
    assert extends is None
    assert values == draft.values


def test_the_word_none_is_shown_as_an_empty_field_and_may_be_typed() -> None:
    base = merge(
        Catalogue().read("denoise/small"),
        {"ema": {"restart_at": "none"}, "checkpoint": {"best": "none"}},
    )
    draft = Draft("mine", base)
    assert (text(draft, "ema.restart_at"), text(draft, "checkpoint.best")) == ("", "")
    assert draft.changes == []
    edit(draft, "ema.restart_at", "40 updates")
    edit(draft, "checkpoint.best", "si_sdr")
    assert draft.to_save()[0] == {
        "ema": {"restart_at": "40 updates"},
        "checkpoint": {"best": ["si_sdr"]},
    }
    for key in ("ema.restart_at", "checkpoint.best", "batch.seconds"):
        edit(draft, key, "none")
    config = draft.check().config
    assert config is not None
    assert (config.ema.restart_at, config.checkpoint.best, config.batch.seconds) == (None, (), None)


def test_edits_leave_the_values_given_alone() -> None:
    base: dict[str, Any] = Catalogue().read("denoise/small")
    draft = Draft("denoise/small", base)
    edit(draft, "optimizer.lr", "1e-4")
    assert base == Catalogue().read("denoise/small")


@pytest.mark.parametrize("item", list_settings(), ids=lambda item: item.key)
def test_every_default_reads_back_as_it_was_written(item: SettingInfo) -> None:
    plain = list(item.default) if isinstance(item.default, tuple) else item.default
    written = write_text(item, plain)
    again = read_text(item, written)
    if written:
        expected = plain if isinstance(plain, bool | int | float | list) else str(plain)
        assert again == expected


@pytest.mark.parametrize(
    ("key", "typed", "value"),
    [
        ("model.strides", "2,4 , 8", [2, 4, 8]),
        ("model.strides", "[2, 4]", [2, 4]),
        ("data.targets", "vocals, drums", ["vocals", "drums"]),
        ("data.others", "", []),
        ("data.mixture", "", ""),
        ("batch.items", "1_000", 1000),
        ("optimizer.lr", "3e-3", 3e-3),
        ("optimizer.lr", "'x'", "'x'"),
        ("schedule.length", " 5 updates ", "5 updates"),
    ],
)
def test_reading_by_hand(key: str, typed: str, value: Any) -> None:
    (item,) = [item for item in list_settings() if item.key == key]
    assert read_text(item, typed) == value
