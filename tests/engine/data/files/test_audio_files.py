"""Finding, probing and reading files, and what is said about those that can't be used."""

from __future__ import annotations

import pickle
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from engine.config.errors import DataError, Problem
from engine.data.checks.listening import listen
from engine.data.files.audio_files import (
    AudioInfo,
    check_ends,
    probe,
    read_segment,
    scan_folder,
    unread_clause,
)
from models.folders import walk

WriteAudio = Callable[..., np.ndarray]


def test_probe_reads_the_header(tmp_path: Path, write_audio: WriteAudio) -> None:
    write_audio("a.flac", frames=1234, rate_hz=22050, channels=2)
    info = probe(tmp_path / "a.flac")
    assert info == AudioInfo(tmp_path / "a.flac", 1234, rate_hz=22050, channels=2)
    assert info.duration_s == 1234 / 22050


def test_a_segment_is_exactly_the_samples(tmp_path: Path, write_audio: WriteAudio) -> None:
    samples_CT = write_audio("a.wav", frames=1000, channels=2)
    part = read_segment(probe(tmp_path / "a.wav"), 300, frames=50)
    assert part.dtype == np.float32
    assert part.flags.c_contiguous
    np.testing.assert_array_equal(part, samples_CT[:, 300:350])


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "mp3", "aiff", "au", "caf", "w64"])
def test_formats_are_found_and_read_to_the_end(
    extension: str, tmp_path: Path, write_audio: WriteAudio
) -> None:
    write_audio(f"x.{extension.upper()}", frames=9000)
    (info,) = scan_folder(tmp_path, setting="data.train")
    assert read_segment(info, 0, frames=info.frames).shape == (1, info.frames)
    assert info.frames >= 9000


def test_scan_is_recursive_and_sorted_and_passes_over_the_rest(
    tmp_path: Path, write_audio: WriteAudio
) -> None:
    for name in ("b/2.wav", "a/1.flac", "c.wav", "b/deep/er/0.wav", ".trash/x.wav", "b/._2.wav"):
        write_audio(name)
    (tmp_path / "notes.txt").write_text("no audio")
    found = [
        info.path.relative_to(tmp_path).as_posix() for info in scan_folder(tmp_path, setting="s")
    ]
    assert found == ["a/1.flac", "b/2.wav", "b/deep/er/0.wav", "c.wav"]


def test_scan_follows_links_and_survives_a_loop(tmp_path: Path, write_audio: WriteAudio) -> None:
    write_audio("real/a.wav")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "real")
    assert len(scan_folder(tmp_path / "data", setting="s")) == 1


def test_a_missing_folder_names_setting_path_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        scan_folder(tmp_path / "nowhere", setting="data.train")
    assert str(caught.value) == (
        f"data.train: folder {tmp_path / 'nowhere'} does not exist; "
        "set the folder with --set data.train=PATH"
    )


def test_a_file_in_place_of_the_folder(tmp_path: Path, write_audio: WriteAudio) -> None:
    write_audio("a.wav")
    with pytest.raises(DataError, match=r"data\.valid: folder .*a\.wav is a file, not a folder"):
        scan_folder(tmp_path / "a.wav", setting="data.valid")


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"data\.noise: no audio files in .*expected files ending in"
    ):
        scan_folder(tmp_path, setting="data.noise")


def test_audio_that_cannot_be_read_is_counted_and_named(
    tmp_path: Path, write_audio: WriteAudio
) -> None:
    write_audio("a.wav")
    assert not unread_clause(walk(tmp_path))
    for name in ("b.M4A", "deep/c.m4a", "d.wma", "._e.wma"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    clause = unread_clause(walk(tmp_path))
    assert clause.startswith(
        "3 audio files are not used, in a format that can't be read (2 .m4a, 1 .wma)"
    )
    assert len(scan_folder(tmp_path, setting="s")) == 1
    (tmp_path / "a.wav").unlink()
    with pytest.raises(DataError, match=r"no usable audio files .*: 3 audio files are not used"):
        scan_folder(tmp_path, setting="data.train")


def test_all_bad_files_are_reported_at_once(tmp_path: Path, write_audio: WriteAudio) -> None:
    write_audio("good.wav")
    write_audio("no-samples.wav", frames=0)
    (tmp_path / "empty.flac").touch()
    (tmp_path / "text.mp3").write_text("this is no audio, whatever its name says")
    with pytest.raises(DataError) as caught:
        scan_folder(tmp_path, setting="data.train")
    assert [problem.key for problem in caught.value.problems] == ["data.train"] * 3
    empty, silent, text = (problem.message for problem in caught.value.problems)
    assert empty == f"{tmp_path}/empty.flac: can't be read as audio (it is empty, 0 bytes)"
    assert silent.startswith(f"{tmp_path}/no-samples.wav: contains no samples")
    assert text.startswith(f"{tmp_path}/text.mp3: can't be read as audio (")


def test_a_message_of_hundreds_of_problems_stays_readable() -> None:
    error = DataError(Problem("data.train", f"file {number} is broken") for number in range(300))
    assert len(error.problems) == 300
    assert str(error).count("\n") == 20
    assert str(error).endswith("... and 280 more problems")


def test_data_errors_cross_process_boundaries() -> None:
    error = DataError([Problem("data.train", "is broken")])
    again = pickle.loads(pickle.dumps(error))
    assert again.problems == error.problems
    assert str(again) == str(error)


def test_a_file_without_a_length_in_its_header_is_counted(
    tmp_path: Path, write_audio: WriteAudio
) -> None:
    write_audio("stream.flac", frames=5000)
    whole = probe(tmp_path / "stream.flac")
    samples_CT = read_segment(whole, 0, frames=5000)
    data = bytearray((tmp_path / "stream.flac").read_bytes())
    (total,) = struct.unpack(">Q", data[18:26])
    data[18:26] = struct.pack(">Q", total & ~(2**36 - 1))
    (tmp_path / "stream.flac").write_bytes(data)
    assert probe(tmp_path / "stream.flac") == whole
    np.testing.assert_array_equal(read_segment(whole, 4000, frames=900), samples_CT[:, 4000:4900])


@pytest.mark.parametrize(
    "name", ["cut.flac", "cut.wav", "cut.aiff", "cut.w64", "cut.rf64", "cut.ogg"]
)
def test_a_truncated_file_is_an_error_wherever_it_is_opened(
    name: str, tmp_path: Path, write_audio: WriteAudio
) -> None:
    write_audio(name, frames=40_000)
    data = (tmp_path / name).read_bytes()
    info = probe(tmp_path / name)
    check_ends([info], setting="")
    (tmp_path / name).write_bytes(data[: len(data) * 3 // 5])
    expected = rf"{re.escape(name)}: truncated"
    with pytest.raises(DataError, match=expected):
        probe(tmp_path / name)
    with pytest.raises(DataError, match=expected):
        check_ends([info], setting="")
    (heard,) = listen([info])
    assert re.search(expected, heard.problem)


def test_a_wav_of_which_the_length_was_never_written_is_used(
    tmp_path: Path, write_audio: WriteAudio
) -> None:
    samples_CT = write_audio("a.wav", frames=4_000)
    whole = (tmp_path / "a.wav").read_bytes()
    at = whole.index(b"data") + 4
    for size, note in (
        (b"\0" * 4, "its header gives no length; all 0.50 s are used"),
        (
            struct.pack("<I", 16_036),
            "its header counts 36 bytes more than there are; all 0.50 s are used",
        ),
        (b"\xff" * 4, ""),
    ):
        (tmp_path / "a.wav").write_bytes(whole[:at] + size + whole[at + 4 :])
        info = probe(tmp_path / "a.wav")
        assert info.note == note
        check_ends([info], setting="")
        np.testing.assert_array_equal(read_segment(info, 0, frames=4_000), samples_CT)


@pytest.mark.parametrize("extension", ["wav", "flac", "aiff", "au", "caf"])
def test_16_bits_become_the_floats_that_libsndfile_makes(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{extension}"
    steps_TC = np.arange(-32_768, 32_768, dtype=np.int16).reshape(-1, 2)
    soundfile.write(path, steps_TC, 8_000, subtype="PCM_16")
    expected_TC, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_array_equal(
        read_segment(probe(path), 5, frames=30_000), expected_TC[5:30_005].T
    )


def test_a_value_that_is_no_number_is_named_with_its_place(tmp_path: Path) -> None:
    samples = np.zeros(1_000, dtype=np.float32)
    samples[600] = np.nan
    soundfile.write(tmp_path / "bad.wav", samples, 1_000, subtype="FLOAT")
    info = probe(tmp_path / "bad.wav")
    assert read_segment(info, 0, frames=600).shape == (1, 600)
    with pytest.raises(
        DataError, match=r"bad\.wav: contains non-finite values .* the first at 0\.60 s"
    ):
        read_segment(info, 500, frames=200)


def test_a_file_that_vanished(tmp_path: Path, write_audio: WriteAudio) -> None:
    write_audio("a.wav")
    info = probe(tmp_path / "a.wav")
    (tmp_path / "a.wav").unlink()
    with pytest.raises(DataError, match=r"a\.wav: can't be read as audio \(it does not exist\)"):
        read_segment(info, 0, frames=10)


def test_files_and_the_demo_dataset_need_no_torch() -> None:
    code = (
        "import sys, engine.data.files.audio_files, engine.data.synthetic;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0
