"""What was made of validation items is kept as far as there is room, and by one process."""

from __future__ import annotations

import pickle

import torch

from engine.recipes.utterances.kept import KeptTensors


def test_the_first_that_fit_stay_and_the_others_are_made_again() -> None:
    kept, made = KeptTensors(most_bytes=20), list[int]()

    def make(index: int) -> torch.Tensor:
        made.append(index)
        return torch.full((2,), float(index))

    for _ in range(2):
        got = [kept.get(index, lambda index=index: make(index))[0].item() for index in range(4)]
        assert got == [0, 1, 2, 3]
    assert made == [0, 1, 2, 3, 2, 3]


def test_another_process_begins_without() -> None:
    kept = KeptTensors(most_bytes=8)
    kept.get(0, lambda: torch.zeros(2))
    there = pickle.loads(pickle.dumps(kept))
    assert there.get(0, lambda: torch.ones(2)).tolist() == [1, 1]
    # With all its room.
    assert there.get(0, lambda: torch.zeros(2)).tolist() == [1, 1]
    assert kept.get(0, lambda: torch.ones(2)).tolist() == [0, 0]
