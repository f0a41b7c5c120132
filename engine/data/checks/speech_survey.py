"""All problems of utterances and transcripts, row by row, with counts and hours. Free of torch."""

from __future__ import annotations

from pathlib import Path

from engine.config.errors import DataError
from engine.config.speech import SpeechData
from engine.config.utterances import UtteranceData
from engine.data.checks.findings import Contents, Finding, Progress, Survey, make_survey, sounds
from engine.data.checks.speech_before_queue import (
    Setting,
    doubles_clause,
    lacking_in_share,
    nothing_kept,
    read_splits,
    unknown_characters,
)
from engine.data.files.rates import check_all_rates
from engine.data.speech.kept_lengths import LeftOut
from engine.data.speech.transcripts import Transcripts, read_transcripts
from engine.text.changes import changes_of, described
from engine.text.normalise import vocabulary_of

_MOST_CHARACTERS = 60


def survey_speech(
    data: UtteranceData, *, content: bool = True, progress: Progress | None = None
) -> list[Survey]:
    """Survey what training and validation name (absolute paths), held to the settings.

    Arguments are those of `engine.data.checks.survey.survey_data`.
    """
    splits = read_splits(data)
    unknown = unknown_characters(splits, data)
    if lacking := lacking_in_share(splits, data):
        unknown.append(f"data.share = {lacking}")
    surveys = []
    for setting, transcripts in splits.items():
        findings = _findings(transcripts, data, content=content, progress=progress)
        if setting == "data.train" and (nothing := nothing_kept(transcripts, data)):
            findings.append(Finding("empty", nothing))
        if setting == "data.valid":
            findings += [Finding("rows", row) for row in unknown]
        contents = _contents(transcripts, data, setting=setting)
        surveys.append(make_survey(transcripts.path, setting, contents=contents, findings=findings))
    return surveys


def survey_transcripts(
    path: Path, *, content: bool = True, progress: Progress | None = None
) -> Survey:
    """Survey a manifest or LibriSpeech folder (absolute path) that no preset describes."""
    data = SpeechData(train=path, valid=path)
    transcripts = read_transcripts(path, data)
    findings = _findings(transcripts, data, content=content, progress=progress)
    return make_survey(
        path, "", contents=_contents(transcripts, data, setting="data.valid"), findings=findings
    )


def _findings(
    transcripts: Transcripts, data: UtteranceData, *, content: bool, progress: Progress | None
) -> list[Finding]:
    findings = [Finding("rows", row) for row in transcripts.bad_rows]
    findings += [Finding("repeated", row) for row in transcripts.contradictions]
    infos = list(transcripts.infos.values())
    try:
        check_all_rates(infos, data.rate_hz, setting="")
    except DataError as error:
        findings += [Finding("rate", problem.message) for problem in error.problems]
    return [*findings, *sounds(infos, content=content, progress=progress)]


def _contents(transcripts: Transcripts, data: UtteranceData, *, setting: Setting) -> Contents:
    """Summarise hours, words and characters of the utterances, and how many are skipped."""
    items = transcripts.utterances
    infos = list(transcripts.infos.values())
    if not items:
        return Contents(infos, [], layout="no utterances")
    lengths_s = [item.duration_s for item in items]
    words = [word for item in items for word in item.text.split()]
    characters = vocabulary_of(data.model_copy(update={"vocabulary": ""}), words)
    shown = characters[:_MOST_CHARACTERS] + ("..." if len(characters) > _MOST_CHARACTERS else "")
    notes = [
        f"utterances of {min(lengths_s):.1f} to {max(lengths_s):.1f} s, {sum(lengths_s) / 3600:.2f} h",
        f"{len(words)} words ({len(set(words))} distinct), {len(characters)} distinct characters: {shown}",
    ]
    if setting == "data.train" and (left_out := str(LeftOut.of(items, data))):
        notes.append(left_out)
    changes, _ = changes_of(
        [item.written for item in items],
        data,
        kept=[row.get("phonemes", {}) for row in transcripts.extras],
    )
    if changes.num_changed:
        notes += described(changes, data)[:-1]  # the characters are named above
    if transcripts.doubles:
        notes[0] += f"; {doubles_clause(transcripts)}"
    layout = f"{len(items)} utterance{'s' if len(items) > 1 else ''}"
    return Contents(infos, [], layout=layout, notes=tuple(notes))
