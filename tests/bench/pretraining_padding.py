"""What the self-supervised presets lose to padding and crops: `python tests/bench/pretraining_padding.py`.

The plans of the small and the base presets on lengths like those of LibriSpeech, on strings of digits and on
long recordings, which are cut; manifests only, no audio. As `sepdash plan` shows it, and how many updates have
two pieces of one recording.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

from engine.batching.exact import ExactPlan
from engine.batching.recipe_plan import plan_of
from engine.batching.report import report_on
from engine.config.loading import load_config
from engine.recipes.registry import open_recipe
from presets.catalogue import Catalogue
from tests.bench.batch_plans import librispeech_like

PRESETS = [
    f"{recipe}-{size}"
    for size in ("small", "base")
    for recipe in ("hubert", "wav2vec2", "data2vec2")
]
_UPDATES = 60


def lengths() -> dict[str, np.ndarray]:
    """Return seconds of utterances by the name of the set."""
    draw = np.random.default_rng(0)
    return {
        "28,000 like LibriSpeech": librispeech_like(28_000),
        "2,000 strings of 1.25 to 2.5 s": draw.uniform(1.25, 2.5, 2_000),
        "300 recordings of 0.5 to 3 min": draw.uniform(30, 180, 300),
    }


def write(path: Path, seconds: np.ndarray) -> None:
    """Write a manifest; every hundred utterances are of a folder."""
    with path.open("w") as file:
        for number, length_s in enumerate(seconds.tolist()):
            name = f"{number // 100}/{number}.wav"
            row = {"path": name, "duration": round(length_s, 4), "frames": int(length_s * 16_000)}
            file.write(json.dumps({**row, "rate_hz": 16_000}) + "\n")


def main() -> None:
    """Print one line for each preset and set."""
    with tempfile.TemporaryDirectory() as folder:
        for title, seconds in lengths().items():
            manifest = Path(folder, "train.jsonl")
            write(manifest, seconds)
            print(title)
            for preset in PRESETS:
                values = Catalogue().read(f"ssl/{preset}")
                data = {**values["data"], "train": str(manifest), "valid": str(manifest)}
                config = load_config({**values, "data": data, "precision": {"device": "cpu"}})
                recipe = open_recipe(config)
                plan, sizes = plan_of(config, recipe), recipe.sizes("train")
                report = report_on(plan, sizes)
                met = "-"
                if isinstance(plan, ExactPlan) and plan.groups is not None:
                    groups = [plan.groups[plan.update_items(u)[1]] for u in range(_UPDATES)]
                    met = f"{np.mean([len(set(g.tolist())) < len(g) for g in groups]):.0%}"
                print(
                    f"  {preset:16} {len(sizes):7,} items, crops {report.cropped_share:6.2%}, padding "
                    f"{report.padding_share:6.2%}, {report.mean_items:6.1f} items an update, pieces meet {met}"
                )


if __name__ == "__main__":
    main()
