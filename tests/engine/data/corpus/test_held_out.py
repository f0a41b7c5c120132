"""Claims about the validation part: random by speaker, the same for a seed wherever the data are, never by length."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from engine.data.corpus.held_out import Candidate, draw_held_out


def clips(**counts: int) -> list[Candidate]:
    return [
        Candidate(speaker, f"{number}.wav", "some text" + " more" * (number % 7))
        for speaker, count in counts.items()
        for number in range(count)
    ]


def names(candidates, **settings) -> set[tuple[str, str]]:
    draw = draw_held_out(candidates, **settings)
    return {(candidates[place].speaker, candidates[place].name) for place in draw.chosen}


def test_each_speaker_gives_its_share_and_at_least_one() -> None:
    candidates = clips(anna=100, theo=40, max=5, rare=4)
    draw = draw_held_out(candidates, share=0.05, seed=0)
    assert Counter(candidates[place].speaker for place in draw.chosen) == {
        "anna": 5,
        "theo": 2,
        "max": 1,
    }
    assert draw.few == ("rare",)
    assert draw.kept == ()


def test_the_draw_depends_on_names_and_seed_not_on_order() -> None:
    candidates = clips(anna=60, theo=60)
    shuffled = random.Random(1).sample(candidates, len(candidates))
    assert names(candidates, share=0.1, seed=3) == names(shuffled, share=0.1, seed=3)
    assert names(candidates, share=0.1, seed=3) != names(candidates, share=0.1, seed=4)


def test_a_larger_share_contains_a_smaller_one() -> None:
    candidates = clips(anna=60)
    assert names(candidates, share=0.1, seed=0) < names(candidates, share=0.3, seed=0)


def test_length_plays_no_part() -> None:
    lengths = [len(clip.text) for clip in clips(anna=400)]
    means = []
    for seed in range(40):
        chosen = draw_held_out(clips(anna=400), share=0.1, seed=seed).chosen
        means.append(np.mean([lengths[place] for place in chosen]))
    error = np.std(means) / np.sqrt(len(means))
    assert abs(np.mean(means) - np.mean(lengths)) < 4 * error


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_every_character_of_validation_is_in_training(share: float) -> None:
    candidates = [Candidate("anna", f"{k}.wav", f"text {chr(0x100 + k // 2)}") for k in range(40)]
    candidates.append(Candidate("anna", "x.wav", "text ß"))
    for seed in range(20):
        draw = draw_held_out(candidates, share=share, seed=seed)
        trained = set("".join(c.text for k, c in enumerate(candidates) if k not in draw.chosen))
        assert set("".join(candidates[k].text for k in draw.chosen)) <= trained
        assert 40 not in draw.chosen
    assert draw.chosen


def test_nothing_is_held_out_where_every_text_is_needed() -> None:
    candidates = [Candidate("anna", f"{k}.wav", chr(0x100 + k)) for k in range(10)]
    draw = draw_held_out(candidates, share=0.2, seed=0)
    assert draw.chosen == frozenset()
    assert len(draw.kept) == 10
