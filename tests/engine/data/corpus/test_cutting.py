"""Claims about cutting: bits, rates and channels stay; the table names every piece; a recogniser can fill it in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from engine.config.errors import DataError
from engine.data.corpus.cutting import cut_recordings
from engine.data.corpus.survey import Drawing, Limits, survey_corpus
from engine.data.files.audio_files import probe


def recording(rate_hz: int = 8_000, channels: int = 1, sounds: int = 6) -> np.ndarray:
    """Six seconds-long bursts of noise with pauses, (T, C)."""
    draw = np.random.default_rng(0)
    parts = []
    for _ in range(sounds):
        parts += [np.zeros((round(0.6 * rate_hz), channels))]
        parts += [0.2 * draw.standard_normal((round(draw.uniform(1.2, 2.4) * rate_hz), channels))]
    return np.clip(np.concatenate([*parts, np.zeros((rate_hz // 2, channels))]), -1, 1)


def cut(path: Path, out: Path, **options):
    return cut_recordings(
        [probe(path)], out, **{"min_s": 1.0, "max_s": 4.0, "pause_s": 0.25, **options}
    )


def starts(out: Path) -> list[tuple[str, float, float]]:
    lines = (out / "sources.tsv").read_text().splitlines()[1:]
    return [(row[0], float(row[2]), float(row[3])) for row in (line.split("\t") for line in lines)]


@pytest.mark.parametrize(
    ("subtype", "suffix", "kept", "dtype"),
    [
        ("PCM_16", "wav", "PCM_16", "int16"), ("PCM_16", "flac", "PCM_16", "int16"),
        ("PCM_24", "wav", "PCM_24", "int32"), ("PCM_24", "flac", "PCM_24", "int32"),
        ("FLOAT", "wav", "FLOAT", "float32"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("rate_hz", "channels"), [(8_000, 1), (22_050, 2)])
def test_samples_are_copied_bit_by_bit(
    tmp_path, subtype, suffix, kept, dtype, rate_hz, channels
) -> None:
    path, out = tmp_path / f"talk.{suffix}", tmp_path / "out"
    samples = recording(rate_hz, channels)
    samples[5_000:5_003] = [[1.0] * channels, [-1.0] * channels, [0.5] * channels]
    soundfile.write(path, samples, rate_hz, subtype=subtype)
    (file,) = cut(path, out)
    whole = soundfile.read(path, dtype=dtype, always_2d=True)[0]
    rows = starts(out)
    assert file.num_pieces == len(rows) == len(list((out / "wavs").iterdir())) >= 3
    for name, start_s, _ in rows:
        piece = out / "wavs" / f"{name}.wav"
        info = soundfile.info(piece)
        assert (info.samplerate, info.channels, info.subtype) == (rate_hz, channels, kept)
        samples_TC = soundfile.read(piece, dtype=dtype, always_2d=True)[0]
        start = round(start_s * rate_hz)
        near = [
            k
            for k in range(start - 12, start + 13)
            if np.array_equal(whole[k : k + len(samples_TC)], samples_TC)
        ]
        assert near, (name, start_s)
        assert 1.0 <= info.duration <= 4.0
    assert sum(end - start for _, start, end in rows) == pytest.approx(file.pieces_s, rel=0.01)


def test_the_table_waits_for_texts_and_the_next_step_says_so(tmp_path, data) -> None:
    soundfile.write(tmp_path / "my talk, part 1.wav", recording(), 8_000)
    out = tmp_path / "pieces"
    cut(tmp_path / "my talk, part 1.wav", out)
    lines = (out / "metadata.csv").read_text().splitlines()
    assert lines[0] == "my_talk__part_1-0001|"
    limits, drawing = Limits(0.5, 5, max_chars=50), Drawing()
    corpus = survey_corpus([out], data, limits=limits, drawing=drawing)
    assert {finding.kind for finding in corpus.findings} == {"empty"}
    assert any("sepdash transcribe" in note for note in corpus.notes)
    (out / "metadata.csv").write_text(
        "".join(f"{line}some text {'abcdefghi'[k]}\n" for k, line in enumerate(lines))
    )
    corpus = survey_corpus([out], data, limits=limits, drawing=drawing)
    assert len(corpus.train) + len(corpus.valid) == len(lines)


def test_equal_names_of_two_folders_do_not_meet(tmp_path) -> None:
    infos = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        soundfile.write(tmp_path / folder / "talk.wav", recording(), 8_000)
        infos.append(probe(tmp_path / folder / "talk.wav"))
    cut_recordings(infos, tmp_path / "out", min_s=1, max_s=4, pause_s=0.25)
    names = sorted(path.name for path in (tmp_path / "out" / "wavs").iterdir())
    assert {name.rsplit("-", 1)[0] for name in names} == {"talk", "talk-2"}


def test_nothing_to_cut_and_a_folder_in_use_leave_no_trace(tmp_path) -> None:
    path, out = tmp_path / "noise.wav", tmp_path / "out"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(80_000), 8_000)
    with pytest.raises(
        DataError, match=r"no piece of 1 to 4 s .* lower --min or --pause, or raise --max"
    ):
        cut(path, out)
    out.mkdir()
    (out / "mine").touch()
    with pytest.raises(DataError, match="exists and is not empty"):
        cut(path, out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["noise.wav", "out"]


def test_a_stretch_without_a_pause_is_told(tmp_path) -> None:
    samples = recording()
    long = 0.2 * np.random.default_rng(1).standard_normal((8 * 8_000, 1))
    soundfile.write(tmp_path / "a.wav", np.concatenate([samples, long, samples]), 8_000)
    (file,) = cut(tmp_path / "a.wav", tmp_path / "out")
    ((start, end),) = file.lost
    assert start == pytest.approx(len(samples) / 8_000, abs=0.05)
    assert end - start == pytest.approx(8.0, abs=0.05)
