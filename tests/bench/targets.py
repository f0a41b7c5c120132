"""K-means beside scikit-learn on the same dumped frames, and labels that are stored beside labels on the fly.

    python tests/bench/targets.py FOLDER [--clusters 100] [--seeds 3] [--items 200] [--threads 1]

Labels are those of MFCCs, and of layer 2 of the network of ssl/hubert-small (random weights: time is the same).
--seeds 0 leaves k-means out.

FOLDER holds audio. scikit-learn gets all frames of it, as the public recipes do (MiniBatchKMeans with
batches of 10 000, 20 starts, at most 100 iterations), and once more what our sample holds (KMeans, 5
starts). Inertia is that of all frames. Every figure is a ratio to ours in the same run; times are of this process.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.cluster import KMeans, MiniBatchKMeans
from threadpoolctl import threadpool_limits

from engine.audio.mfcc import Mfcc
from engine.clustering.kmeans import KMeansFit, nearest
from engine.clustering.reservoir import Reservoir
from engine.config.loading import load_config
from engine.data.files.audio_files import find_audio, probe
from engine.data.files.resampling import read_resampled
from engine.recipes.stored_labels.label_files import LabelFiles, Words
from engine.recipes.waveforms.batches import normalised
from models.self_supervised.hubert import Hubert
from presets.catalogue import Catalogue

RATE_HZ, FRAMES_PER_CLUSTER = 16_000, 300


class Files:
    """Audio files as items."""

    def __init__(self, folder: Path) -> None:
        self.infos = [probe(path) for path in find_audio(folder)]

    def __len__(self) -> int:
        return len(self.infos)

    def num_samples(self, index: int) -> int:
        info = self.infos[index]
        return -(-info.frames * RATE_HZ // info.rate_hz)

    def key(self, index: int) -> str:
        return self.infos[index].path.name

    def files(self, index: int) -> list[str]:
        return [str(self.infos[index].path)]

    def audio(self, index: int) -> np.ndarray:
        read_CT = read_resampled(
            self.infos[index], 0, frames=self.num_samples(index), rate_hz=RATE_HZ
        )
        return read_CT.mean(axis=0)


def timed(work: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    begin = time.process_time()
    result = work()
    return time.process_time() - begin, result


def ours(frames: np.ndarray, counts: np.ndarray, *, clusters: int, seed: int) -> np.ndarray:
    """Fit on a sample of what streams by; the sample is copied, as it would be while streaming."""
    reservoir = Reservoir(counts, capacity=clusters * FRAMES_PER_CLUSTER, seed=seed)
    ends = np.cumsum(counts)
    for item in reservoir.items:
        reservoir.put(item, torch.from_numpy(frames[ends[item] - counts[item] : ends[item]]))
    fit = KMeansFit(clusters, seed=seed)
    state, points = fit.start(), reservoir.points()
    for index in range(fit.num_steps()):
        state = fit.step(index, state, points_FD=points)
    return state["centroids"].numpy()


def inertia(frames: np.ndarray, centroids: np.ndarray) -> float:
    _, distance_N = nearest(torch.from_numpy(frames), torch.from_numpy(centroids))
    return float(distance_N.double().mean())


def compare_kmeans(frames: np.ndarray, counts: np.ndarray, *, clusters: int, seeds: int) -> None:
    times: dict[str, list[float]] = {}
    inertias: dict[str, list[float]] = {}
    for seed in range(seeds):
        draw = np.random.default_rng(seed)
        sample = frames[draw.permutation(len(frames))[: clusters * FRAMES_PER_CLUSTER]]
        ways: dict[str, Callable[[], np.ndarray]] = {
            "sepdash, on a sample": lambda seed=seed: ours(frames, counts, clusters=clusters, seed=seed),
            "MiniBatchKMeans, all frames": lambda seed=seed: MiniBatchKMeans(
                clusters, batch_size=10_000, n_init=20, max_iter=100, random_state=seed
            ).fit(frames).cluster_centers_,
            "KMeans, our sample, 5 starts": lambda seed=seed, sample=sample: KMeans(
                clusters, n_init=5, max_iter=100, random_state=seed
            ).fit(sample).cluster_centers_,
        }  # fmt: skip
        for name, work in ways.items():
            seconds, centroids = timed(work)
            times.setdefault(name, []).append(seconds)
            inertias.setdefault(name, []).append(inertia(frames, centroids.astype(np.float32)))
    base = next(iter(times))
    print(f"{'k-means':32} {'CPU time':>10} {'ratio':>7} {'inertia ratio':>14}")
    for name in times:
        time_s = statistics.median(times[name])
        ratio = statistics.median(a / b for a, b in zip(times[name], times[base], strict=True))
        worse = statistics.median(
            a / b for a, b in zip(inertias[name], inertias[base], strict=True)
        )
        print(f"{name:32} {time_s:8.2f} s {ratio:6.2f}x {worse:13.4f}x")


def compare_labels(
    files: Files,
    features: Callable[[np.ndarray], torch.Tensor],
    *,
    name: str,
    clusters: int,
    items: int,
) -> None:
    mfcc = Mfcc(RATE_HZ)
    chosen = np.random.default_rng(0).permutation(len(files))[:items].tolist()
    frames_N = np.array([mfcc.frames(files.num_samples(index)) for index in range(len(files))])
    waves = {index: files.audio(index) for index in chosen}
    centroids = torch.randn(clusters, features(waves[chosen[0]]).shape[1])
    with tempfile.TemporaryDirectory() as folder:
        stored = LabelFiles(
            Path(folder),
            items=files,
            labels_N=frames_N,
            model="bench",
            values=clusters,
            words=Words(),
        )
        stored.create()

        def on_the_fly() -> list[np.ndarray]:
            return [nearest(features(waves[index]), centroids)[0].numpy() for index in chosen]

        def write() -> None:
            for index, label_L in zip(chosen, labels, strict=True):
                stored.write(index, label_L)

        def read() -> list[np.ndarray]:
            return [stored.read(i) for i in chosen]

        labels = on_the_fly()
        ways = {"on the fly": on_the_fly, "stored: written once": write, "stored: read": read}
        taken = {
            name: min(timed(work)[0] for _ in range(3)) / items * 1e3 for name, work in ways.items()
        }
        assert all(np.array_equal(a, b) for a, b in zip(read(), labels, strict=True))
    audio_ms = (
        min(timed(lambda: [files.audio(index) for index in chosen])[0] for _ in range(2))
        / items
        * 1e3
    )
    print(f"\n{f'labels of an item by {name}':32} {'CPU time':>10} {'of reading its audio':>22}")
    for name, ms in taken.items():
        print(f"{name:32} {ms:7.3f} ms {ms / audio_ms:21.2f}x")
    # Storing costs one pass over audio and features, and a write.
    once, each = (
        audio_ms + taken["on the fly"] + taken["stored: written once"],
        taken["stored: read"],
    )
    print(f"stored labels are cheaper from epoch {once / (taken['on the fly'] - each):.1f} on")


def small_layer() -> Callable[[np.ndarray], torch.Tensor]:
    """Return what gives layer 2 of the network of ssl/hubert-small, as a teacher does."""
    model = Hubert(load_config(Catalogue().read("ssl/hubert-small")).model, clusters=100).eval()

    @torch.no_grad()
    def features(wave_T: np.ndarray) -> torch.Tensor:
        wave_BT = torch.from_numpy(normalised(wave_T))[None]
        return model.layer_features(wave_BT)[2][0, : model.frames_of(len(wave_T))]

    return features


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clusters", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    files, mfcc = Files(arguments.folder), Mfcc(RATE_HZ)
    if not len(files):
        sys.exit(f"{arguments.folder} contains no audio")
    parts = [mfcc(files.audio(index)).numpy() for index in range(len(files))]
    counts = np.array([len(part) for part in parts])
    frames = np.concatenate(parts)
    print(f"{len(files)} files, {len(frames):,} frames of 39, {arguments.threads} thread(s)\n")
    with threadpool_limits(arguments.threads):
        if arguments.seeds:
            compare_kmeans(frames, counts, clusters=arguments.clusters, seeds=arguments.seeds)
        for name, features in {"MFCC": mfcc, "a layer": small_layer()}.items():
            compare_labels(
                files, features, name=name, clusters=arguments.clusters,
                items=min(arguments.items, len(files)),
            )  # fmt: skip


if __name__ == "__main__":
    main()
