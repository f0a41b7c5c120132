"""`python -P -m engine.programs.speak`: speaks texts with a trained voice; `sepdash speak` starts it.

The job is a line of JSON on stdin, answers are lines of JSON on stdout: whose voice it is, each text that was
spoken, the end. Nothing is spoken before all texts, clips and the judge have been checked.
"""

from __future__ import annotations

import sys
import time
from math import isnan, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from engine.programs.pipes import Job, answer_job, say
from engine.start_up import loading

if TYPE_CHECKING:
    import torch

    from engine.recipes.judge.judge import Judge
    from engine.recipes.voice.candidates import Candidate
    from engine.recipes.voice.conditioning import Conditioning
    from engine.recipes.voice.speaker_similarity import VoiceSimilarity
    from engine.recipes.voice.speaking import TrainedVoice
    from engine.recipes.voice.texts_to_speak import TextToSpeak


def main() -> int:
    """Speak; return 0, or 2 for a user error."""
    return answer_job(speak)


def speak(job: Job, answers: TextIO) -> None:
    """Do a job, and say its answers.

    Raises:
        ValueError: for an unusable checkpoint, text, clip, saved voice or judge; nothing is written then.
        OSError: when a result can't be written.
    """
    with loading():
        from engine.checkpoints.files import read_manifest
        from engine.checkpoints.find import config_of, find_checkpoint
        from engine.precision import backend_settings, resolve_device
        from engine.recipes.voice.conditioning import write_voice
        from engine.recipes.voice.speaking import load_voice
        from engine.recipes.voice.texts_to_speak import read_texts

    manifest = read_manifest(find_checkpoint(Path(job["checkpoint"])))
    config, device = config_of(manifest), resolve_device(job["device"])
    voice = load_voice(config, manifest, device=device)
    texts = read_texts(voice, {item["place"]: item["text"] for item in job["items"]})
    judge = _judge(job, device)
    with backend_settings(config.precision):
        conditioning = _conditioning(job, voice)
        for folder in {Path(item["path"]).parent for item in job["items"]}:
            folder.mkdir(parents=True, exist_ok=True)
        if job["save_as"]:
            write_voice(Path(job["save_as"]), conditioning, voice=voice)
        similarity, lacking = _similarity(voice, conditioning)
        about = {"voice": conditioning.about, "device": str(device), "weights": voice.hash}
        say(answers, **about, without_similarity=lacking)
        for item, text in zip(job["items"], texts, strict=True):
            spoken = _speak(job, text, voice=voice, conditioning=conditioning, judge=judge)
            written = _written(
                Path(item["path"]), text, voice=voice, similarity=similarity, **spoken
            )
            say(answers, spoken=written)
    say(answers, done=True)


def _judge(job: Job, device: torch.device) -> Judge | None:
    from engine.recipes.judge.judge import load_judge

    try:
        return load_judge(Path(job["judge"]), device) if job["judge"] else None
    except ValueError as error:
        raise ValueError(f"--judge takes a run of a speech recogniser: {error}") from None


def _conditioning(job: Job, voice: TrainedVoice) -> Conditioning:
    from engine.recipes.voice import conditioning

    if job["saved"]:
        return conditioning.read_voice(Path(job["saved"]), voice=voice)
    if job["clips"]:
        return conditioning.of_clips(voice, [Path(clip) for clip in job["clips"]])
    return conditioning.of_speaker(voice, job["speaker"])


def _similarity(
    voice: TrainedVoice, conditioning: Conditioning
) -> tuple[VoiceSimilarity | None, str]:
    """Return what measures how much speech sounds like the voice, or why nothing does."""
    from engine.audio.speaker_package import missing
    from engine.recipes.voice.speaker_similarity import VoiceSimilarity, load_speaker_encoder
    from engine.recipes.voice.speaking import clip_audio

    encoder = load_speaker_encoder(voice.network.text_embedding.weight.device)
    if encoder is None:
        return None, f"speaker similarity is not measured: it requires {missing()}"
    clips = clip_audio(voice, besides=conditioning.speaker)
    own = list(conditioning.waves) or clips.pop(conditioning.speaker or "", [])
    if not own:
        return None, "speaker similarity is not measured: a saved voice has no recordings"
    rate_hz = voice.codec.facts.rate_hz
    return VoiceSimilarity(encoder, rate_hz, own=own, others=clips), ""


def _speak(
    job: Job,
    text: TextToSpeak,
    *,
    voice: TrainedVoice,
    conditioning: Conditioning,
    judge: Judge | None,
) -> dict[str, Any]:
    """Return the candidates, the best first, and the seconds that they took; the judge's are apart."""
    from engine.recipes.voice.candidates import judged, ranked, speak_candidates, with_audio
    from models.voice.generation import Sampling

    began = time.monotonic()
    candidates = speak_candidates(
        voice,
        text.tokens,
        vectors_1CD=conditioning.vectors_1CD,
        count=job["candidates"],
        seed=job["seed"],
        sampling=Sampling(**job["sampling"]),
    )
    if judge is not None:
        candidates = with_audio(candidates, voice)
    generated = time.monotonic()
    if judge is not None:
        rate_hz = voice.codec.facts.rate_hz
        candidates = judged(candidates, text.text, judge=judge, rate_hz=rate_hz)
    return {
        "order": ranked(candidates),
        "generation_s": generated - began,
        "judging_s": time.monotonic() - generated if judge is not None else None,
    }


def _written(
    path: Path,
    text: TextToSpeak,
    *,
    voice: TrainedVoice,
    similarity: VoiceSimilarity | None,
    order: list[Candidate],
    generation_s: float,
    judging_s: float | None,
) -> dict[str, Any]:
    """Write the best candidate, and return what there is to say of it."""
    from engine.audio.wav_files import write_wav
    from engine.recipes.voice.candidates import why

    best, rate_hz = order[0], voice.codec.facts.rate_hz
    began = time.monotonic()
    audio_T = voice.audio(best.spoken) if best.audio_T is None else best.audio_T
    seconds = generation_s + time.monotonic() - began
    duration_s = len(audio_T) / rate_hz
    if len(audio_T):
        # Louder than full scale can't be written; equal codes remain equal bytes.
        scaled_T = audio_T / max(1.0, float(abs(audio_T).max()))
        write_wav(path, scaled_T[None], rate_hz=rate_hz, subtype="PCM_16")
    same, others = similarity.of(audio_T) if similarity and len(audio_T) else (nan, nan)
    return {
        "similarity": None if isnan(same) else same,
        "similarity_others": None if isnan(others) else others,
        "path": str(path) if len(audio_T) else None, "text": text.text, "read_as": text.read_as,
        "duration_s": duration_s, "rate_hz": rate_hz, "generation_s": seconds, "judging_s": judging_s,
        "real_time_factor": seconds / duration_s if duration_s else None, "why": why(order),
        **_about(best), "candidates": [_about(one) for one in order],
    }  # fmt: skip


def _about(one: Candidate) -> dict[str, Any]:
    spoken = one.spoken
    return {
        "candidate": one.number, "ending": spoken.ending, "codes": len(spoken.codes_N),
        "log_prob": spoken.log_prob, "character_error_rate": one.cer,
        "heard": one.heard,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
