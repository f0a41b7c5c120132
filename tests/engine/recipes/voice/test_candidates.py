"""Which candidate wins, and why: by log-probability, or by what a judge heard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.checkpoints.files import read_manifest
from engine.checkpoints.find import config_of
from engine.recipes.judge.judge import Judge
from engine.recipes.voice.candidates import Candidate, judged, ranked, speak_candidates, why
from engine.recipes.voice.speaking import load_voice
from models.voice.generation import Ending, Sampling, Spoken
from tests.engine.recipes.tone_speech import say


def candidate(
    number: int, log_prob: float, *, ending: Ending = "stop", says: str = "", codes: int = 3
) -> Candidate:
    spoken = Spoken(torch.zeros(codes, dtype=torch.int64), ending, log_prob=log_prob)
    return Candidate(number, spoken, audio_T=say(says, 8_000))


def test_without_a_judge_the_likeliest_that_stopped_wins() -> None:
    order = ranked(
        [
            candidate(1, -2.0), candidate(2, -0.5, ending="limit"), candidate(3, -1.0),
            candidate(4, -0.1, codes=0), candidate(5, -0.2, ending="stuck"),
        ]
    )  # fmt: skip
    assert [one.number for one in order] == [3, 1, 5, 2, 4]
    assert why(order) == (
        "candidate 3 of 5: log-probability -1.000 per code (others -0.100 to -2.000); 2 of 5 did not stop"
    )
    assert why(order[:1]) == ""


def test_with_a_judge_the_fewest_errors_win_and_ties_go_to_the_likeliest(judge: Judge) -> None:
    said = [
        candidate(1, -0.5, says="abbd"), candidate(2, -2.0, says="abcd"),
        candidate(3, -1.0, says="abcd"), candidate(4, -0.1, says=""),
    ]  # fmt: skip
    order = ranked(judged(said, "abcd", judge=judge, rate_hz=8_000))
    assert [one.number for one in order] == [3, 2, 1, 4]
    assert [one.heard for one in order] == ["abcd", "abcd", "abbd", ""]
    assert [one.cer for one in order] == [0.0, 0.0, 0.25, 1.0]
    assert why(order) == (
        "candidate 3 of 4: CER 0.0% (others 0.0% to 100.0%); 2 equal, of which the first by log-probability: "
        "-1.000 per code"
    )


def test_a_text_that_the_judge_reads_nothing_of_has_no_error_rate(judge: Judge) -> None:
    order = ranked(
        judged([candidate(1, -2.0, says="a"), candidate(2, -1.0, says="ab")], "?!", judge=judge, rate_hz=8_000)
    )  # fmt: skip
    assert [(one.number, one.cer) for one in order] == [(2, None), (1, None)]
    assert why(order).startswith("candidate 2 of 2: log-probability -1.000")


def test_a_candidate_is_the_same_whatever_their_number_is(trained: Path) -> None:
    manifest = read_manifest(trained)
    voice = load_voice(config_of(manifest), manifest, device=torch.device("cpu"))
    vectors_1CD = voice.vectors_of_speaker("loud")
    few, many = (
        speak_candidates(
            voice, voice.tokens("abcd"), vectors_1CD=vectors_1CD, count=count, seed=5,
            sampling=Sampling(temperature=1.0, top_k=0, top_p=1.0),
        )
        for count in (2, 18)
    )  # fmt: skip
    assert [one.number for one in many] == list(range(1, 19))
    for one, other in zip(few, many, strict=False):
        assert torch.equal(one.spoken.codes_N, other.spoken.codes_N)
        assert one.spoken.log_prob == pytest.approx(other.spoken.log_prob, abs=1e-5)
    assert len({tuple(one.spoken.codes_N.tolist()) for one in many}) > 9
    assert np.isfinite(voice.audio(many[-1].spoken)).all()
