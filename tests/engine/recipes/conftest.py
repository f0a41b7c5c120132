"""A judge that hears tones, and recordings for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import soundfile

from engine.recipes.judge.judge import Judge
from tests.engine.recipes.tone_speech import ToneTranscriber, say


@pytest.fixture
def transcriber() -> ToneTranscriber:
    return ToneTranscriber()


@pytest.fixture
def judge(transcriber: ToneTranscriber) -> Judge:
    return Judge(transcriber, hash="tones")


@pytest.fixture
def spoken(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that records texts at a rate and returns their manifest."""

    def write(texts: Sequence[str], *, rate_hz: int = 8_000, name: str = "valid") -> Path:
        folder = tmp_path / "spoken"
        folder.mkdir(exist_ok=True)
        rows: list[dict[str, Any]] = []
        for number, text in enumerate(texts):
            path = folder / f"{name}-{number:02}.wav"
            soundfile.write(path, say(text.lower().replace(".", ""), rate_hz), rate_hz)
            rows.append({"path": path.name, "text": text})
        manifest = folder / f"{name}.jsonl"
        manifest.write_text("\n".join(map(json.dumps, rows)))
        return manifest

    return write
