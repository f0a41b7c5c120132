"""Check, plan and training open the same files of any folder: random trees for every kind of data.

Trees have nested folders, links (into themselves, to each other, in circles, to nowhere), never-data and
damaged files. What each stage opens is seen at the one place that opens audio.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.config.errors import DataError
from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.data.files import audio_files
from engine.data.kinds import check_data, open_dataset, survey_data, train_sizes
from models.folders import is_never_data

NAMES = ["a", "b", "c d", "é", "__MACOSX", "@eaDir", ".git", "lost+found"]
FILES = ["v.wav", "o.flac", "V.WAV", "._v.wav", ".DS_Store", "note.txt", "x.m4a"]
KINDS: dict[str, dict[str, Any]] = {
    "bandwidth": {"input_rates_hz": [4000]},
    "denoise": {},
    "stems": {"targets": ["v"], "others": ["o"]},
    "speakers": {"num_speakers": 2},
    "speech": {"tokens": "char", "min_s": 0.05},
    "unlabelled": {"min_s": 0.05},
}
# Kind of data -> kinds of model and loss.
OTHERS = {"speech": ("ctc_encoder", "ctc"), "unlabelled": ("wav2vec2", "wav2vec2")}

# (folder, kind of entry, its name, what a link leads to)
ENTRIES = st.lists(
    st.tuples(
        st.lists(st.sampled_from(NAMES), max_size=3),
        st.sampled_from(["file", "file", "file", "damaged", "folder", "link", "dangling"]),
        st.sampled_from(FILES),
        st.lists(st.sampled_from([*NAMES, ".."]), max_size=3),
    ),
    min_size=3,
    max_size=14,
)


def grow(root: Path, entries: list[Any]) -> None:
    """Make a tree; entries whose place is taken are left out."""
    root.mkdir(parents=True)
    for folders, what, name, target in entries:
        folder = root.joinpath(*folders)
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / name
            if what in ("file", "damaged") and not path.exists():
                if what == "file" and path.suffix.lower() in (".wav", ".flac"):
                    soundfile.write(path, np.full(1800, 0.1), 16_000, subtype="PCM_16")
                else:
                    path.write_bytes(b"RIFF no audio")
            elif what == "link":
                (folder / f"link {len(target)}").symlink_to(root.joinpath(*target))
            elif what == "dangling":
                path.symlink_to(root / "nowhere")
    texts = [folder for folder, _, _ in os.walk(root) if list(Path(folder).glob("*.flac"))]
    for folder in texts:
        lines = [f"{path.stem} words\n" for path in Path(folder).glob("*.flac")]
        Path(folder, "1-2.trans.txt").write_text("".join(lines), encoding="utf-8")
        Path(folder, "._1-2.trans.txt").write_bytes(b"\0\5\x16\7\0")


def config_of(kind: str, root: Path) -> RunConfig:
    data = {"kind": kind, "train": str(root), "valid": str(root), "rate_hz": 16_000, **KINDS[kind]}
    if kind in OTHERS:
        model, loss = OTHERS[kind]
        return load_config({"data": data, "model": {"kind": model}, "loss": {"kind": loss}})
    more = {"noise": str(root)} if kind == "denoise" else {}
    return load_config({"data": {**data, **more, "segment_s": 0.1}})


@contextmanager
def opened() -> Iterator[set[str]]:
    """Give the paths of the audio files that are opened."""
    seen: set[str] = set()
    real = audio_files.measure

    def measure(path: Path) -> Any:
        seen.add(str(path))
        return real(path)

    with patch.object(audio_files, "measure", measure):
        yield seen


def reachable(root: Path) -> set[str]:
    """Return the real places of all audio files below a folder: a search that knows nothing of the walk."""
    wanted, seen, found = [str(root)], set(), set()
    while wanted:
        folder = os.path.realpath(wanted.pop())
        if folder in seen:
            continue
        seen.add(folder)
        for path in Path(folder).iterdir():
            if is_never_data(path.name):
                continue
            if not path.is_dir():
                found |= {str(path)} if path.suffix.lower() in (".wav", ".flac") else set()
            elif not Path(folder).is_relative_to(os.path.realpath(path)):
                wanted.append(str(path))
    return found


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(entries=ENTRIES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_stage_opens_the_same_files(kind: str, entries: list[Any], tmp_path: Path) -> None:
    root = tmp_path / "tree"
    shutil.rmtree(root, ignore_errors=True)
    grow(root, entries)
    config = config_of(kind, root)
    stages: dict[str, Callable[[], Any]] = {
        "data check": lambda: survey_data(config.data, content=False),
        "enqueue": lambda: check_data(config.data),
        "plan": lambda: train_sizes(config.data),
        "training": lambda: open_dataset(config, "train"),
        "validation": lambda: open_dataset(config, "valid"),
    }
    files, verdicts = {}, {}
    for stage, run in stages.items():
        with opened() as seen:
            try:
                result = run()
                verdicts[stage] = True
            except DataError:
                verdicts[stage] = False
        files[stage] = seen
        if stage == "data check":
            serious = {"empty", "unreadable", "rows", "stems"}
            verdicts[stage] = not any(
                finding.kind in serious for survey in result for finding in survey.findings
            )
    assert all(seen == files["data check"] for seen in files.values()), (files, verdicts)
    assert len(set(verdicts.values())) == 1, verdicts
    if kind in ("bandwidth", "unlabelled"):
        opened_paths = map(Path, files["enqueue"])
        places = [f"{os.path.realpath(path.parent)}/{path.name}" for path in opened_paths]
        assert len(places) == len(set(places)), "a file twice"
        assert set(places) == reachable(root)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_that_cant_be_read_stops_every_stage(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "tree"
    grow(root, [([s], "file", f, []) for s in ("a", "b", "é") for f in ("v.wav", "o.flac")])
    config = config_of(kind, root)
    check_data(config.data)
    real = os.scandir

    def scandir(path: str) -> Any:
        if Path(path) == root / "é":
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    for stage in (
        lambda: check_data(config.data),
        lambda: train_sizes(config.data),
        lambda: open_dataset(config, "train"),
    ):
        with pytest.raises(DataError, match="é: this folder can't be read"):
            stage()
    surveys = survey_data(config.data, content=False)
    assert any("é: this folder" in item.message for item in surveys[0].findings)
