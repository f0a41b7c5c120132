"""Well-known datasets as tiny fakes with their true folders: recognised, checked, and read."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.config.loading import load_config
from engine.config.overrides import apply_overrides
from engine.data.checks.layouts import recognise
from engine.data.checks.survey import survey_folder
from engine.data.kinds import open_dataset
from models.folders import walk
from presets.catalogue import Catalogue

WriteAudio = Callable[..., np.ndarray]


def write_musdb(write_audio: WriteAudio) -> None:
    for track in ("train/A Band - A Song", "train/Other - Two", "test/Third - One"):
        for seed, stem in enumerate(("mixture", "vocals", "drums", "bass", "other")):
            write_audio(f"{track}/{stem}.wav", frames=4410, rate_hz=44_100, channels=2, seed=seed)


def write_libri2mix(write_audio: WriteAudio) -> None:
    for split in ("train-100", "dev", "test"):
        for stem in ("mix_clean", "mix_both", "mix_single", "s1", "s2", "noise"):
            for number in range(2):
                name = f"wav8k/min/{split}/{stem}/84-{number}_652-{number}.wav"
                write_audio(name, frames=1000 + number, seed=number)


def write_voicebank(write_audio: WriteAudio) -> None:
    for split in ("trainset_28spk", "testset"):
        for side in ("clean", "noisy"):
            for number in range(2):
                write_audio(f"{side}_{split}_wav/p226_{number}.wav", rate_hz=48_000, seed=number)


def write_vctk(write_audio: WriteAudio) -> None:
    for speaker in ("p225", "p226"):
        for microphone in (1, 2):
            name = f"wav48_silence_trimmed/{speaker}/{speaker}_001_mic{microphone}.flac"
            write_audio(name, rate_hz=48_000)


def write_ljspeech(write_audio: WriteAudio) -> None:
    for number in range(3):
        write_audio(f"wavs/LJ001-000{number}.wav", rate_hz=22_050, seed=number)


KNOWN = {
    "MUSDB18-HQ": (write_musdb, 15, ["other"]),
    "Libri2Mix": (write_libri2mix, 18, ["s2"]),
    "VoiceBank-DEMAND": (write_voicebank, 8, ["noisy_"]),
    "VCTK": (write_vctk, 4, []),
    "LJSpeech layout": (write_ljspeech, 3, []),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_dataset_is_recognised_and_has_no_problems(
    name: str, tmp_path: Path, write_audio: WriteAudio
) -> None:
    write, num_files, _ = KNOWN[name]
    write(write_audio)
    if name.startswith("LJSpeech"):
        (tmp_path / "metadata.csv").write_text("LJ001-0000|one")
    survey = survey_folder(tmp_path, segment_s=0.01)
    assert survey.dataset == name
    assert survey.num_files == num_files
    assert survey.findings == ()


@pytest.mark.parametrize("name", ["MUSDB18-HQ", "Libri2Mix", "VoiceBank-DEMAND"])
def test_the_command_it_gives_reads_the_dataset(
    name: str, tmp_path: Path, write_audio: WriteAudio
) -> None:
    KNOWN[name][0](write_audio)
    known = recognise(tmp_path, walk(tmp_path))
    assert known is not None
    program, verb, preset, *words = shlex.split(known.use)
    assert (program, verb) == ("sepdash", "enqueue")
    assignments = [word for word in words if word != "--set"]
    config = load_config(apply_overrides(Catalogue().read(preset), assignments))
    train, valid = open_dataset(config, "train"), open_dataset(config, "valid")
    assert (len(train), len(valid)) == {"MUSDB18-HQ": (2, 1)}.get(name, (2, 2))
    item = valid.item(0, 0)
    assert item.mix_CT.any()
    assert config.data.interchangeable == (name == "Libri2Mix")


@pytest.mark.parametrize("name", ["MUSDB18-HQ", "Libri2Mix", "VoiceBank-DEMAND"])
def test_a_missing_stem_is_named(name: str, tmp_path: Path, write_audio: WriteAudio) -> None:
    write, _, (stem,) = KNOWN[name]
    write(write_audio)
    lost = next(path for path in sorted(tmp_path.rglob("*.wav")) if stem in str(path))
    lost.unlink()
    survey = survey_folder(tmp_path, segment_s=0.01)
    assert [item.kind for item in survey.findings] == ["stems"]
    assert f"stem {stem.strip('_')!r} is missing" in survey.findings[0].message


def test_stems_of_one_name_belong_together(tmp_path: Path, write_audio: WriteAudio) -> None:
    write_voicebank(write_audio)
    noisy = write_audio("noisy_testset_wav/p226_1.wav", rate_hz=48_000, samples=np.full(1000, 0.3))
    known = recognise(tmp_path, walk(tmp_path))
    assert known is not None
    assignments = [word for word in shlex.split(known.use)[3:] if word != "--set"]
    config = load_config(apply_overrides(Catalogue().read("denoise/voicebank-demand"), assignments))
    np.testing.assert_array_equal(open_dataset(config, "valid").item(0, 1).mix_CT, noisy)


def test_other_folders_are_not_taken_for_known_ones(
    tmp_path: Path, write_audio: WriteAudio
) -> None:
    write_audio("train/a/vocals.wav")
    write_audio("clean/a.wav")
    assert recognise(tmp_path, walk(tmp_path)) is None
