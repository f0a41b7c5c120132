"""Applying a trained model to audio files of any length, rate and number of channels.

Owns the chunked pass over a file, which bounds memory whatever its length, and the names of the
output files. Letters: S sources, C channels, T samples.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
import torch
from torch import nn

from engine.checkpoints.find import load_model
from engine.config.schema import RunConfig
from engine.data.files.audio_files import AudioInfo, probe, probe_all
from engine.data.files.rates import check_rates, resampled_length
from engine.data.files.resampling import read_resampled
from engine.precision import autocast, backend_settings, resolve_device
from engine.recipes.separation.overlap import Chunking, overlap_add

# Larger WAV files need 64-bit lengths.
_LARGEST_WAV_BYTES = 2**32 - 2**16
_COPY_FRAMES = 2**18

Progress = Callable[[Path, float], None]


class Separator:
    """A model that separates signals at its own rate."""

    def __init__(self, config: RunConfig, model: nn.Module, *, device: torch.device) -> None:
        self.config = config
        self.channels = config.audio_data.channels
        self._device = device
        self._model = model.to(device).eval()

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the model's outputs."""
        return self.config.audio_data.source_names

    def output_rate(self, rate_hz: int) -> int:
        """Return the output rate: that of the file; for bandwidth extension at least the model's."""
        extends = self.config.audio_data.lowest_input_hz > 0
        return max(rate_hz, self.config.audio_data.rate_hz) if extends else rate_hz

    @torch.inference_mode()
    def __call__(self, mix_CT: np.ndarray) -> np.ndarray:
        """Return (S, C, T) for a signal (C, T).

        A mono model processes each channel separately; a stereo model gets a mono signal on both
        channels, and the mean of its two output channels is returned.
        """
        channels = len(mix_CT)
        mix_CT_ = torch.from_numpy(np.ascontiguousarray(mix_CT)).to(self._device)
        if self.channels == 1:
            mix_BCT = mix_CT_.unsqueeze(1)
        else:
            mix_BCT = mix_CT_.expand(self.channels, -1).unsqueeze(0)
        with autocast(self.config.precision, self._device):
            est_BSCT = self._model(mix_BCT).float()
        if self.channels == 1:
            est_SCT = est_BSCT.squeeze(2).transpose(0, 1)
        else:
            est_SCT = est_BSCT[0]
            if channels == 1:
                est_SCT = est_SCT.mean(dim=1, keepdim=True)
        result: np.ndarray = est_SCT.cpu().numpy()
        return result

    def blocks(self, info: AudioInfo, chunking: Chunking) -> Iterator[np.ndarray]:
        """Yield the estimate of a whole file in consecutive blocks (S, C, t), at the model's rate.

        Overlapping chunks are crossfaded (`overlap_add`).
        """
        rate_hz = self.config.audio_data.rate_hz
        total = resampled_length(info.frames, info.rate_hz, to_hz=rate_hz)
        estimates = (
            self(_read(info, start, frames=end - start, rate_hz=rate_hz))
            for start, end in chunking.spans(total)
        )
        return overlap_add(
            estimates, chunking.overlap, interchangeable=self.config.audio_data.interchangeable
        )


def _read(info: AudioInfo, start: int, *, frames: int, rate_hz: int) -> np.ndarray:
    mix_CT = read_resampled(info, start, frames=frames, rate_hz=rate_hz)
    if not np.isfinite(mix_CT).all():
        raise ValueError(
            f"{info.path}: contains NaN or infinite values between "
            f"{start / rate_hz:.2f} and {(start + frames) / rate_hz:.2f} s; "
            "record or convert it again"
        )
    return mix_CT


def separate_files(
    checkpoint: Path,
    inputs: Sequence[Path],
    *,
    out_dir: Path,
    device: str = "auto",
    chunk_s: float = 10.0,
    overlap: float = 0.25,
    progress: Progress | None = None,
) -> list[Path]:
    """Apply a checkpoint to audio files; write `<stem>.<source>.wav` for each source of each file.

    Files of another rate are resampled to the model's and back (bandwidth extension keeps the
    model's rate where that is higher). Results are 32-bit float WAV, written completely or not at all.

    Args:
        checkpoint: a checkpoint, or the folder of a run (see `find_checkpoint`).
        inputs: audio files.
        out_dir: output folder; created when missing.
        device: auto, cpu, cuda or cuda:N.
        chunk_s: length of a chunk in seconds.
        overlap: fraction of a chunk that is crossfaded with the next, below 1.
        progress: called with an input and the completed fraction of it.

    Raises:
        ValueError: for an unusable checkpoint, input or setting; nothing is written then, except
            for the files before one whose audio turns out to be damaged.
        OSError: when a result can't be written, as on a full disk.
    """
    if not 0 <= overlap <= 0.9:
        raise ValueError(f"overlap = {overlap}: expected a fraction from 0 to 0.9")
    config, model = load_model(checkpoint)
    separator = Separator(config, model, device=resolve_device(device))
    length = round(chunk_s * config.audio_data.rate_hz)
    if length < 64:
        raise ValueError(f"chunk = {chunk_s} s is shorter than 64 samples; use a few seconds")
    chunking = Chunking(length, int(length * overlap))
    infos = probe_all(inputs, setting="")
    targets = [_targets(info.path, out_dir, names=separator.sources) for info in infos]
    _check(infos, targets, model=separator)
    out_dir.mkdir(parents=True, exist_ok=True)
    with backend_settings(config.precision):
        for info, paths in zip(infos, targets, strict=True):
            _separate_file(separator, info, targets=paths, chunking=chunking, progress=progress)
    return [path for paths in targets for path in paths]


def _targets(source: Path, out_dir: Path, *, names: Sequence[str]) -> list[Path]:
    return [out_dir / f"{source.stem}.{name}.wav" for name in names]


def _check(
    infos: Sequence[AudioInfo], targets: Sequence[Sequence[Path]], *, model: Separator
) -> None:
    inputs = {info.path.resolve() for info in infos}
    writers: dict[Path, Path] = {}
    for info, paths in zip(infos, targets, strict=True):
        if model.channels > 1 and info.channels not in (1, model.channels):
            raise ValueError(
                f"{info.path} has {info.channels} channels, but the model accepts 1 or {model.channels}; "
                "split the file or mix it down"
            )
        check_rates(info.rate_hz, model.config.audio_data.rate_hz, setting=str(info.path))
        for path in paths:
            if path.resolve() in inputs:
                raise ValueError(f"{path} would overwrite an input; choose another output folder")
            if path in writers:
                raise ValueError(
                    f"{writers[path]} and {info.path} would both be written to {path}; "
                    "process them one at a time into different folders"
                )
            writers[path] = info.path


def _separate_file(
    separator: Separator,
    info: AudioInfo,
    *,
    targets: Sequence[Path],
    chunking: Chunking,
    progress: Progress | None,
) -> None:
    rate_hz = separator.config.audio_data.rate_hz
    out_rate_hz = separator.output_rate(info.rate_hz)
    frames = resampled_length(info.frames, info.rate_hz, to_hz=rate_hz)
    with TemporaryDirectory(prefix=".separate-", dir=targets[0].parent) as scratch:
        parts = [Path(scratch) / f"{number}.wav" for number in range(len(targets))]
        done = 0
        with _writing(targets[0]):
            files = [
                _create(part, rate_hz, channels=info.channels, frames=frames) for part in parts
            ]
        try:
            for block_SCT in separator.blocks(info, chunking):
                for file, block_CT, target in zip(files, block_SCT, targets, strict=True):
                    with _writing(target):
                        file.write(block_CT.T)
                done += block_SCT.shape[-1]
                if progress is not None:
                    progress(info.path, done / frames)
        finally:
            for file in files:
                file.close()
        for part, target in zip(parts, targets, strict=True):
            if out_rate_hz != rate_hz:
                with _writing(target):
                    part = _convert(part, out_rate_hz, info)
            part.replace(target)


def _convert(part: Path, rate_hz: int, source: AudioInfo) -> Path:
    """Resample a finished part, block by block, to exactly the length of its source."""
    converted = part.with_suffix(".converted.wav")
    info = probe(part)
    frames = resampled_length(source.frames, source.rate_hz, to_hz=rate_hz)
    with _create(converted, rate_hz, channels=info.channels, frames=frames) as file:
        for start in range(0, frames, _COPY_FRAMES):
            count = min(_COPY_FRAMES, frames - start)
            file.write(read_resampled(info, start, frames=count, rate_hz=rate_hz).T)
    return converted


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Name the file and the free disk space: libsndfile does not report a full disk."""
    try:
        yield
    except (soundfile.LibsndfileError, AssertionError) as error:
        free = shutil.disk_usage(path.parent).free
        raise OSError(
            f"{path}: can't be written ({str(error) or 'incomplete write'}); {free / 2**20:.1f} MiB are free on "
            "this disk; free some space or choose another folder"
        ) from error


def _create(path: Path, rate_hz: int, *, channels: int, frames: int) -> soundfile.SoundFile:
    large = frames * channels * 4 > _LARGEST_WAV_BYTES
    return soundfile.SoundFile(
        path, "w", rate_hz, channels, subtype="FLOAT", format="RF64" if large else "WAV"
    )
