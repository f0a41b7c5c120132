"""Digit strings: equal bytes for equal seeds, held-out text and takes, lengths, and what is heard."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from engine.config.errors import DataError
from engine.config.speech import SpeechData
from engine.data.speech.digit_strings import (
    WORDS,
    DigitString,
    SplitName,
    build_digit_strings,
    draw_string,
    find_takes,
    is_held_out,
)
from engine.data.speech.utterances import SpeechDataset

RATE = 8_000


def rows(manifest: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in manifest.read_text().splitlines()]


def all_bytes(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """Two speakers, ten digits, takes 03 to 06: tones whose pitch is the digit and speaker."""
    for speaker, base_hz in (("ann", 300), ("bob", 1_800)):
        for digit in range(10):
            for take in range(3, 7):
                path = tmp_path / "digits" / speaker / f"{digit}_{take:02}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                time_T = np.arange(round((0.3 + 0.02 * take) * RATE)) / RATE
                tone_T = 0.5 * np.sin(2 * np.pi * (base_hz + 100 * digit) * time_T)
                soundfile.write(path, tone_T, RATE)
    return tmp_path / "digits"


def build(folder: Path, out: Path, *, number: int = 30, seed: int = 0) -> Path:
    build_digit_strings(folder, out, num_train=number, num_valid=number // 3, seed=seed)
    return out


def test_equal_seeds_give_equal_bytes_and_more_begins_with_the_same(digits: Path) -> None:
    first = all_bytes(build(digits, digits.parent / "a"))
    assert all_bytes(build(digits, digits.parent / "b")) == first
    assert set(first) >= {"train.jsonl", "valid.jsonl", "train/000029.flac", "valid/000009.flac"}
    more = all_bytes(build(digits, digits.parent / "c", number=36))
    assert more["train.jsonl"].startswith(first["train.jsonl"])
    assert all(more[name] == first[name] for name in first if name.endswith(".flac"))
    other = all_bytes(build(digits, digits.parent / "d", seed=1))
    assert other["train/000000.flac"] != first["train/000000.flac"]


def test_no_validation_text_is_trained_on_whatever_the_seed(digits: Path) -> None:
    takes, rate_hz = find_takes(digits)
    texts: dict[SplitName, set[str]] = {"train": set(), "valid": set()}
    for seed in range(3):
        for split in texts:
            for index in range(100):
                plan = draw_string(takes[split], rate_hz, split=split, seed=seed, index=index)
                texts[split].add(plan.text)
                assert is_held_out(plan.digits) == (split == "valid")
    assert min(map(len, texts.values())) > 150
    assert texts["train"] & texts["valid"] == set()


def test_takes_are_of_one_speaker_and_split_and_fit(digits: Path) -> None:
    takes, rate_hz = find_takes(digits)
    names: dict[SplitName, set[str]] = {"train": set(), "valid": set()}
    lengths_s: list[float] = []
    for split in names:
        for index in range(200):
            plan = draw_string(takes[split], rate_hz, split=split, seed=5, index=index)
            names[split].update(take.path.stem.partition("_")[2] for take in plan.takes)
            assert {take.path.parent.name for take in plan.takes} == {plan.speaker}
            assert [int(take.path.name[0]) for take in plan.takes] == list(plan.digits)
            assert plan.text == " ".join(WORDS[digit] for digit in plan.digits)
            used = sum(plan.pauses) + sum(take.frames for take in plan.takes)
            assert used <= plan.length
            lengths_s.append(plan.length / RATE)
    assert names == {"train": {"05", "06"}, "valid": {"03", "04"}}
    assert 1.0 <= min(lengths_s) < 1.1
    assert 13.5 < max(lengths_s) <= 15.0
    assert np.median(lengths_s) == pytest.approx(np.sqrt(15), rel=0.2)


def _heard(samples_T: np.ndarray, plan: DigitString) -> list[str]:
    """Read the digits back from the pitch of each stretch that is not pause."""
    ends = np.cumsum([p + t.frames for p, t in zip(plan.pauses, plan.takes, strict=True)])
    words = []
    for end, take in zip(ends, plan.takes, strict=True):
        spectrum_F = np.abs(np.fft.rfft(samples_T[end - take.frames : end], n=RATE))
        words.append(WORDS[round((int(spectrum_F.argmax()) - 300) % 1_500 / 100)])
    return words


def test_what_is_heard_is_what_is_written(digits: Path) -> None:
    out = build(digits, digits.parent / "out")
    takes, _ = find_takes(digits)
    gaps = []
    for index, row in enumerate(rows(out / "train.jsonl")):
        samples_T, rate_hz = soundfile.read(out / row["path"])
        assert (rate_hz, len(samples_T) / RATE) == (RATE, pytest.approx(row["duration"], abs=1e-5))
        plan = draw_string(takes["train"], RATE, split="train", seed=0, index=index)
        assert row["speaker"] == plan.speaker
        assert _heard(samples_T, plan) == row["text"].split()
        assert 0.2 < np.abs(samples_T).max() < 0.95
        assert 0 < np.abs(samples_T[: plan.pauses[0]]).max() < 0.02
        gaps += plan.pauses[1:]
    assert min(gaps) >= 0.05 * RATE
    assert max(gaps) <= 0.5 * RATE
    assert len(set(gaps)) > 0.9 * len(gaps)


def test_the_manifests_are_data_of_a_run(digits: Path) -> None:
    out = build(digits, digits.parent / "out")
    values = {"train": f"{out}/train.jsonl", "valid": f"{out}/valid.jsonl", "rate_hz": RATE}
    data = SpeechData.model_validate_json(json.dumps({"kind": "speech", **values}))
    train = SpeechDataset(data, "train")
    assert len(train) == 30
    durations = train.durations_s()
    assert all(train.num_samples(i) == round(s * RATE) for i, s in enumerate(durations))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: [p.unlink() for p in d.glob("*/*_0[56].wav")], r"no takes 05 and above \(for training\)"),
        (lambda d: [p.unlink() for p in d.glob("*/*_0[34].wav")], r"no takes 00 to 04 \(for validation\)"),
        (lambda d: (d / "ann" / "0_05.wav").write_bytes(b""), "0_05.wav: can't be read as audio"),
        (lambda d: soundfile.write(d / "ann" / "0_05.wav", np.zeros(9), 16_000), "8000 Hz, 16000 Hz"),
        (lambda d: (d.parent / "out").mkdir() or (d.parent / "out" / "x").touch(), "not empty"),
        (lambda d: [p.unlink() for p in d.glob("*/[1-9]_*")], ""),
    ],
)  # fmt: skip
def test_mistakes_leave_nothing_behind(
    digits: Path, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(digits)
    before = sorted(path.name for path in digits.parent.iterdir())
    if not message:
        build(digits, digits.parent / "out")  # one digit alone still makes strings of many lengths
        return
    with pytest.raises(DataError, match=message):
        build(digits, digits.parent / "out")
    assert sorted(path.name for path in digits.parent.iterdir()) == before


def test_real_digits(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shared_data("digits")
    takes, _ = find_takes(folder)
    numbers: dict[SplitName, set[int]] = {
        split: {
            int(take.path.stem.partition("_")[2])
            for speaker in takes[split].values()
            for files in speaker.values()
            for take in files
        }
        for split in takes
    }
    assert numbers == {"train": set(range(5, 50)), "valid": set(range(5))}
    out = build(folder, tmp_path / "out")
    found = {split: rows(out / f"{split}.jsonl") for split in ("train", "valid")}
    assert {row["speaker"] for row in found["train"]} == {"george", "jackson", "nicolas", "theo"}
    for row in [*found["train"], *found["valid"]]:
        assert 1.0 <= row["duration"] <= 15.0
    texts = [{row["text"] for row in part} for part in found.values()]
    assert all(one & other == set() for one, other in pairwise(texts))
