"""Audio that is written: whole files or none. Letters: C channels, T samples."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile


def write_wav(path: Path, samples_CT: np.ndarray, *, rate_hz: int, subtype: str = "FLOAT") -> None:
    """Write a WAV file (C, T) completely or not at all; a file of that name is replaced.

    Args:
        path: the file; its folder exists.
        samples_CT: the signal.
        rate_hz: its rate.
        subtype: of libsndfile. FLOAT has the time of writing in its header; PCM_16 has not, so that equal signals
            are equal files.

    Raises:
        OSError: when it can't be written, as on a full disk.
    """
    # Beside its place, so that the last step is a rename; a folder, so that the file has the usual mode.
    try:
        folder = TemporaryDirectory(prefix=".audio-", dir=path.parent)
    except OSError as error:
        raise OSError(f"{path}: can't be written ({error.strerror})") from None
    with folder as aside:
        part = Path(aside) / "part.wav"
        try:
            soundfile.write(part, samples_CT.T, rate_hz, subtype=subtype, format="WAV")
        except (soundfile.LibsndfileError, AssertionError) as error:
            # libsndfile does not report a full disk.
            free = shutil.disk_usage(path.parent).free
            raise OSError(
                f"{path}: can't be written ({str(error) or 'incomplete write'}); {free / 2**20:.1f} MiB are free on "
                "this disk"
            ) from None
        part.replace(path)
