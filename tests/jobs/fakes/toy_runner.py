"""The child process of a run, with the toy of masked prediction in place of the run's own recipe."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "plugins"))

import masked_toy.recipe

import engine.recipes.registry
from jobs.child.runner import main

engine.recipes.registry.open_recipe = masked_toy.recipe.open_masked_toy

if __name__ == "__main__":
    sys.exit(main())
