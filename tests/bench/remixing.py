"""CPU time of mixing stems anew, by who does what: readers alone, or the device with their stems.

    python tests/bench/remixing.py [--segment 3] [--items 40] [--batch 8] [--device cpu]

Tracks of four stereo stems of noise at 44.1 kHz, 16 bits, read from copies (`data.cache`), in a
temporary folder. With `--device cuda` the time of the device is measured, too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from engine.batching.items import ItemDraw, MicroBatch
from engine.config.loading import load_config
from engine.recipes.separation.recipe import SeparationRecipe

RATE_HZ = 44_100
STEMS = ("vocals", "drums", "bass", "other")
CHANGES: dict[str, dict[str, Any]] = {
    "read alone": {},
    "other tracks": {"remix": 1.0},
    "and gain, polarity, sides": {
        "remix": 1.0, "gain_db": 6.0, "flip_polarity": True, "swap_channels": True,
    },
    "and speed": {
        "remix": 1.0, "gain_db": 6.0, "flip_polarity": True, "swap_channels": True,
        "speed_percent": 10,
    },
}  # fmt: skip


def write_tracks(folder: Path, seconds: float) -> None:
    draw = np.random.default_rng(0)
    for split in ("train", "valid"):
        for track in range(4):
            path = folder / split / str(track)
            path.mkdir(parents=True)
            for stem in STEMS:
                samples = draw.normal(0, 0.1, (round(seconds * RATE_HZ), 2)).clip(-1, 1)
                soundfile.write(path / f"{stem}.wav", samples, RATE_HZ, subtype="PCM_16")


def recipe_of(folder: Path, segment_s: float, targets: int, **changes: Any) -> SeparationRecipe:
    data = {
        "kind": "stems", "train": str(folder / "train"), "valid": str(folder / "valid"),
        "rate_hz": RATE_HZ, "channels": 2, "segment_s": segment_s, "cache": str(folder / "copies"),
        "targets": list(STEMS[:targets]), "others": list(STEMS[targets:]), **changes,
    }  # fmt: skip
    return SeparationRecipe(load_config({"data": data, "precision": {"device": "cpu"}}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--segment", type=float, default=3.0)
    parser.add_argument("--items", type=int, default=40)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.set_num_threads(1)
    print(
        f"CPU ms an item of {options.segment:g} s x 4 stereo stems, 44.1 kHz, batch {options.batch}"
    )
    print(f"{'changes':<27}{'targets':>8}{'mixed by':>10}{'reader':>9}{'step':>9}{'MB':>7}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tracks(folder, 30.0)
        for targets in (1, 4):
            for words, changes in CHANGES.items():
                for place in ("readers", "device") if changes else ("readers",):
                    recipe = recipe_of(
                        folder,
                        options.segment,
                        targets,
                        **changes,
                        mix_on=place if changes else "auto",
                    )
                    row = measure(recipe, options.items // options.batch, options.batch, device)
                    print(
                        f"{words:<27}{targets:>8}{place:>10}{row[0]:>9.2f}{row[1]:>9.2f}{row[2]:>7.1f}"
                    )


def measure(
    recipe: SeparationRecipe, batches: int, size: int, device: torch.device
) -> tuple[float, float, float]:
    """Return CPU ms of reading and of mixing an item, and its size in MB on the way."""
    groups = [
        MicroBatch(tuple(ItemDraw(epoch, index % 8) for index in range(size)))
        for epoch in range(batches)
    ]
    recipe.fetch("train", groups[0])
    begin = time.process_time()
    found = [recipe.fetch("train", group) for group in groups]
    read = time.process_time() - begin
    begin = time.process_time()
    for batch in found:
        recipe.mixed(batch.to(device))
    if device.type == "cuda":
        torch.cuda.synchronize()
    mixing = time.process_time() - begin
    number = batches * size
    megabytes = sum(t.nbytes for t in found[0].tensors.values()) / size / 1e6
    return read / number * 1e3, mixing / number * 1e3, megabytes


if __name__ == "__main__":
    main()
