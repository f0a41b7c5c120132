"""Which validation items an evaluation takes, and in which batches."""

from __future__ import annotations

import numpy as np

from engine.recipes.validation_items import longest_first, num_validated


def test_the_first_items_up_to_the_limit_are_validated(make_config):
    limited = [make_config(validation={"max_items": most}) for most in (0, 3, 20)]
    assert [num_validated(config, 10) for config in limited] == [10, 3, 10]


def test_batches_hold_the_longest_items_first_and_equals_in_order():
    assert longest_first(np.array([1.0, 3.0, 2.0, 3.0, 0.5]), 2) == [[1, 3], [2, 0], [4]]
