"""What voices cost: `python tests/bench/voice_update.py`.

An update beside a plain loop on the same network, batch and loss (fused AdamW, clipping; both on one thread, in
turn, medians of CPU time); codes a second of generation with the cache of keys and values beside reading the whole
sequence for every code; and the share of padding in the plan of the preset, in seconds and in places of the stack.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from engine.batching.batch import Batch
from engine.batching.recipe_plan import plan_of
from engine.checkpoints.files import MODEL, write_checkpoint
from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.recipes.base import Opening
from engine.recipes.registry import open_recipe
from engine.recipes.voice.place_sums import sequences_of
from engine.recipes.voice.recipe import VoiceRecipe
from models.codec.mel_codec import MelCodec
from models.codec.settings import MelCodecConfig
from models.voice.generation import Limits, Sampling, generate
from models.voice.network import Sequences, VoiceModel
from presets.catalogue import Catalogue
from tests.bench.beside_plain import milliseconds, our_update, plain_adamw, ratio, timed

_RATE, _PRESET, _CODEC = 8_000, "voice/small", "codec/small"
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_UPDATES = 60


def preset(folder: Path, *, items: int) -> tuple[RunConfig, Path]:
    """Return voice/small on noise with texts of digits, and the checkpoint of an untrained codec."""
    draw = np.random.default_rng(0)
    for split, count in (("train", items), ("valid", 4)):
        rows = []
        for index in range(count):
            text = " ".join(draw.choice(_WORDS, size=draw.integers(1, 7)))
            seconds = 0.3 + 0.55 * len(text.split()) * draw.uniform(0.8, 1.2)
            name = f"{split}-{index}.wav"
            soundfile.write(folder / name, 0.1 * draw.normal(size=int(seconds * _RATE)), _RATE)
            rows.append(json.dumps({"path": name, "text": text}))
        (folder / f"{split}.jsonl").write_text("\n".join(rows))
    data = {split: str(folder / f"{split}.jsonl") for split in ("train", "valid")}
    values = Catalogue().read(_CODEC)
    codec = load_config({**values, "data": {**values["data"], **data}})
    assert isinstance(codec.model, MelCodecConfig)
    about = {"counters": {"updates": 1}, "config": codec.to_dict(), "plan": ""}
    write_checkpoint(
        folder / "codec", about, tensors={MODEL: MelCodec(codec.model).state_dict()},
        documents={"state.json": {}},
    )  # fmt: skip
    values = Catalogue().read(_PRESET)
    return load_config({**values, "data": {**values["data"], **data}}), folder / "codec"


class PlainLoop:
    """The least that trains this network."""

    def __init__(self, config: RunConfig, model: VoiceModel) -> None:
        self.loss: Any = config.loss
        self.model, self.optimizer = model, plain_adamw(config, model)

    def update(self, batch: Batch) -> None:
        """Train on a batch."""
        sequences = sequences_of(batch)
        self.optimizer.zero_grad()
        text, code = self.model(self.model.reference_vectors(batch.tensors["reference"]), sequences)
        loss = self.loss.mel_loss_weight * _mean(
            code, sequences.code_BN, lengths_B=sequences.code_lengths_B, stop=self.model.code_stop
        ) + self.loss.text_loss_weight * _mean(
            text, sequences.text_BU, lengths_B=sequences.text_lengths_B, stop=0
        )
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()


def _mean(logits_BSK: Tensor, token_BS: Tensor, *, lengths_B: Tensor, stop: int) -> Tensor:
    target_BS = nn.functional.pad(token_BS, (0, 1)).clone()
    place_S = torch.arange(target_BS.shape[1])
    target_BS[place_S == lengths_B[:, None]] = stop
    target_BS[place_S > lengths_B[:, None]] = -100
    return cross_entropy(logits_BSK.transpose(1, 2), target_BS)


@torch.no_grad()
def whole_sequences(
    model: VoiceModel, texts: list[list[int]], *, vectors: Tensor, codes: int
) -> None:
    """Generate by reading everything for each code, greedily."""
    text_BU = torch.tensor(texts)
    lengths_B = torch.full((len(texts),), text_BU.shape[1])
    code_BN = torch.zeros(len(texts), 0, dtype=torch.int64)
    for number in range(codes):
        sequences = Sequences(text_BU, lengths_B, code_BN, torch.full((len(texts),), number))
        _, logits = model(vectors, sequences)
        best_B1 = logits[:, -1:, : model.num_codes].argmax(dim=-1)
        code_BN = torch.cat([code_BN, best_B1], dim=1)


def generation(model: VoiceModel) -> None:
    """Print codes a second with and without the cache, for one text and for sixteen."""
    model.eval()
    # No STOP, so that all arms make as many codes.
    nn.init.constant_(model.code_head.bias[model.code_stop :], -1e4)
    for count in (1, 16):
        texts, vectors = (
            [[1, 2, 3, 4] * 6] * count,
            torch.zeros(count, 1, model.final_norm.bias.numel()),
        )
        for codes in (60, 120):
            seconds = {"cached": 1e9, "whole": 1e9}
            for _ in range(3):
                started = perf_counter()
                generate(
                    model, texts, vectors_BCD=vectors, seeds=range(count),
                    limits=Limits([codes] * count), sampling=Sampling(temperature=0.0),
                )  # fmt: skip
                seconds["cached"] = min(seconds["cached"], perf_counter() - started)
                started = perf_counter()
                whole_sequences(model, texts, vectors=vectors, codes=codes)
                seconds["whole"] = min(seconds["whole"], perf_counter() - started)
            rates = {name: count * codes / took for name, took in seconds.items()}
            print(
                f"{count} x {codes} codes: {rates['cached']:.0f} codes/s with the cache, {rates['whole']:.0f} "
                f"without: {rates['cached'] / rates['whole']:.1f} times"
            )


def padding(config: RunConfig, recipe: VoiceRecipe) -> None:
    """Print the share of padding in the first updates, in seconds and in places of the stack."""
    plan, sizes = plan_of(config, recipe), recipe.sizes("train")
    real_s = padded_s = real = padded = 0.0
    for update in range(_UPDATES):
        for batch in plan.micro_batches(update):
            own = sizes[[draw.index for draw in batch.draws]]
            seconds = batch.shape[0] if batch.shape else own[:, 0].max()
            tensors = recipe.worst_batch(1, (float(seconds), float(own[:, 1].max()))).tensors
            codes = recipe._codes.num_codes("train")[[draw.index for draw in batch.draws]]
            real_s += own[:, 0].sum()
            padded_s += seconds * len(own)
            real += (own[:, 1] + codes + 4).sum()
            padded += (tensors["text"].shape[1] + tensors["code"].shape[1] + 4) * len(own)
    print(f"padding: {1 - real_s / padded_s:.1%} of seconds, {1 - real / padded:.1%} of places")


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--items", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=2.4)
    parser.add_argument("--tokens", type=float, default=15.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        config, codec = preset(Path(folder), items=600)
        recipe = open_recipe(config, opening=Opening(None, {"codec": codec}))
        assert isinstance(recipe, VoiceRecipe)
        padding(config, recipe)
        batch = recipe.worst_batch(options.items, (options.seconds, options.tokens))
        plain, model = PlainLoop(config, recipe.build_model()), recipe.build_model()
        ours = our_update(config, recipe, model, [batch])
        arms = {"plain": lambda number: plain.update(batch), "ours": ours}
        times = timed(arms, rounds=options.rounds)
        print(milliseconds(times))
        print(
            f"ours / plain: {ratio(times, 'ours', 'plain'):.3f} (median of {options.rounds} pairs)"
        )
        generation(recipe.build_model())


if __name__ == "__main__":
    main()
