"""Claims about weights that begin a run with another vocabulary: rows follow the names of their tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from engine.checkpoints.files import read_manifest
from engine.events import Evaluated, Noticed
from engine.recipes.base import StepContext
from engine.recipes.registry import open_recipe
from engine.text.tokens import from_bytes
from engine.training.initial_weights import InitError
from engine.training.trainer import Trainer

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def fit(config: Any, folder: Any, recorder: Any, stop: Any, **more: Any) -> Any:
    recipe = open_recipe(config)
    Trainer(config, recipe, folder=folder, observers=[recorder], control=stop()).fit(**more)
    return recipe


@pytest.fixture(params=["ctc", "rnnt"])
def build(request, ctc_config, speech_config):
    """Builds the config of either recogniser."""
    return ctc_config if request.param == "ctc" else speech_config


def names_in(tensors: Any) -> list[str]:
    return from_bytes(bytes(tensors["vocabulary"].tolist())).names


def test_a_larger_vocabulary_keeps_the_rows_of_its_tokens_and_says_which_are_new(
    tmp_path, build, new_recorder, stop_after
):
    fit(build(), tmp_path / "base", new_recorder(), stop_after)
    base = tmp_path / "base" / "checkpoints" / "last-000006"
    recorder = new_recorder()
    # A rate of nothing: what is saved is what the run began with.
    larger = build(
        data={"vocabulary": LETTERS}, init_from="base",
        optimizer={"lr": 1e-12, "weight_decay": 0.0},
    )  # fmt: skip
    recipe = fit(larger, tmp_path / "new", recorder, stop_after, init_from=base)

    old = read_manifest(base).tensors("model.safetensors")
    new = read_manifest(tmp_path / "new" / "checkpoints" / "last-000006").tensors(
        "model.safetensors"
    )
    before, after = names_in(old), names_in(new)
    assert len(after) == 28 > len(before)
    assert set(before) < set(after)
    assert [after.index(name) for name in before] != list(range(len(before))), "rows should move"
    for name in type(recipe).tables:
        for row, token in enumerate(before):
            torch.testing.assert_close(
                new[name][after.index(token)], old[name][row], atol=1e-7, rtol=0
            )
    same = [name for name in old if name not in (*type(recipe).tables, "vocabulary")]
    assert all(torch.allclose(new[name], old[name], atol=1e-7) for name in same)
    notice = next(event for event in recorder.of(Noticed) if event.kind == "init-from")
    assert f"{len(before)} tokens kept, {28 - len(before)} new and untrained ('" in notice.message
    assert "skipped" not in notice.message
    assert recorder.of(Evaluated)[0].counters.updates == 0


def test_the_old_tokens_have_the_logits_that_they_had(
    tmp_path, ctc_config, new_recorder, stop_after
):
    from engine.batching.items import ItemDraw, MicroBatch
    from engine.training.initial_weights import load_initial_weights

    base = fit(ctc_config(), tmp_path / "base", new_recorder(), stop_after)
    larger = open_recipe(ctc_config(data={"vocabulary": LETTERS}))
    small, wide = base.build_model().eval(), larger.build_model().eval()
    folder = tmp_path / "base" / "checkpoints" / "last-000006"
    load_initial_weights(small, folder, strict=True)
    load_initial_weights(wide, folder, strict=True, tables=larger.token_tables)
    batch = base.fetch("valid", MicroBatch((ItemDraw(0, 1),)))
    feats = batch.tensors["feat"], batch.tensors["feat_length"]
    with torch.no_grad():
        one, other = small(*feats)[0], wide(*feats)[0]
    order = [names_in(wide.state_dict()).index(name) for name in names_in(small.state_dict())]
    torch.testing.assert_close(other[..., order], one)
    assert larger.step(wide, batch, context=StepContext()).loss_sum.isfinite()


def test_tokens_that_a_run_has_not_are_refused_by_name_or_dropped(
    tmp_path, build, new_recorder, stop_after
):
    fit(build(data={"vocabulary": LETTERS}), tmp_path / "base", new_recorder(), stop_after)
    base = tmp_path / "base" / "checkpoints" / "last-000006"
    with pytest.raises(
        InitError, match=r"tokens that this run has not \('a', 'b'.*init_strict = false"
    ):
        fit(
            build(init_from="base"), tmp_path / "strict", new_recorder(), stop_after, init_from=base
        )
    recorder = new_recorder()
    fit(
        build(init_from="base", init_strict=False), tmp_path / "loose", recorder, stop_after,
        init_from=base,
    )  # fmt: skip
    notice = next(event for event in recorder.of(Noticed) if event.kind == "init-from")
    assert "not in this vocabulary ('a', 'b'" in notice.message
