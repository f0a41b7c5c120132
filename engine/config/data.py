"""Settings of the datasets: one section for each kind, those of installed packages included."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from engine.config.data_settings import DataSettings
from engine.config.speech import SpeechData
from engine.config.unlabelled import UnlabelledData
from engine.config.voice import VoiceData
from models.base.settings import setting
from models.entry_points import check_target
from models.plugins import accept_section

GROUP = "sepdash.data"


class AudioData(DataSettings):
    """What every dataset of audio files has in common."""

    recipes: ClassVar[frozenset[str]] = frozenset({"separation"})
    default_loss: ClassVar[str] = "spectral"
    has_segments: ClassVar[bool] = True
    whole_files: ClassVar[bool] = True
    keeps_clips: ClassVar[bool] = True

    train: Path = setting(..., "Folder with the training audio.", unit="path")
    valid: Path = setting(..., "Folder with the validation audio.", unit="path")
    rate_hz: int = setting(48_000, "Sampling rate of the model.", unit="Hz", ge=4_000, le=192_000)
    channels: int = setting(
        1,
        "Number of audio channels of the model; mono files are duplicated, stereo files averaged.",
        ge=1,
        le=2,
    )
    segment_s: float = setting(2.0, "Length of a training segment.", unit="s", gt=0.01, le=60)
    short_files: Literal["pad", "whole"] = setting(
        "pad",
        "How training uses files shorter than one segment: padded to a full segment, or as whole "
        "items of their own length, so that batches are planned by length.",
    )
    resample: Literal["never", "uniform", "any"] = setting(
        "uniform",
        "Which files may be resampled to rate_hz: none, folders with a single sampling rate, or any file.",
    )
    cache: Path | None = setting(
        None, "Folder for 16-bit copies of the training audio at rate_hz, created at the start of a run "
        "and memory-mapped; empty: read the original files.", unit="path",
    )  # fmt: skip

    @property
    def segment_samples(self) -> int:
        """Length of a training segment, in audio samples."""
        return round(self.segment_s * self.rate_hz)

    @property
    def items_differ(self) -> bool:
        """Short files may be items of their own length."""
        return self.short_files == "whole"

    @property
    def lowest_input_hz(self) -> int:
        """Rate that the input is brought down to at the lowest; 0 where it keeps its bandwidth."""
        return 0

    def mixes_on_device(self, *, gpu: bool) -> bool:
        """Return whether training items are mixed where the model is, `gpu` saying that it is on one."""
        return False

    def validated_on_training(self) -> Self:
        """Return these data with those of training in place of those of validation."""
        return self.model_copy(update={"valid": self.train})

    @property
    def source_names(self) -> tuple[str, ...]:
        """Names of the model outputs, in order."""
        raise NotImplementedError

    @property
    def interchangeable(self) -> bool:
        """Whether the order of the sources is arbitrary: any permutation of the estimates is correct."""
        return False


class BandwidthData(AudioData):
    """Bandwidth extension: the input is the target resampled down to a lower rate and back up."""

    kind: Literal["bandwidth"] = setting("bandwidth", "Bandwidth extension of clean audio.")
    input_rates_hz: tuple[int, ...] = setting(
        (8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
        "Possible sampling rates of the input; one is drawn for each training item.",
        unit="Hz",
        min_length=1,
        max_length=16,
    )

    @property
    def source_names(self) -> tuple[str, ...]:
        """One: the audio with its upper band."""
        return ("extended",)

    @property
    def lowest_input_hz(self) -> int:
        """The lowest of the rates that are drawn from."""
        return min(self.input_rates_hz)

    @model_validator(mode="after")
    def _rates_below_model_rate(self) -> BandwidthData:
        high = [rate for rate in self.input_rates_hz if rate > self.rate_hz or rate < 1_000]
        if high:
            raise ValueError(
                f"input_rates_hz contains {high}: each must lie between 1000 and rate_hz = {self.rate_hz}"
            )
        return self


class DenoiseData(AudioData):
    """Denoising: clean speech plus noise at a signal-to-noise ratio drawn from a range."""

    kind: Literal["denoise"] = setting("denoise", "Denoising: clean audio mixed with noise.")
    noise: Path = setting(..., "Folder with the noise recordings.", unit="path")
    noise_valid: Path | None = setting(
        None, "Folder with validation noise; empty: the last tenth of each training noise recording.",
        unit="path",
    )  # fmt: skip
    snr_low_db: float = setting(0.0, "Minimum signal-to-noise ratio.", unit="dB", ge=-40, le=60)
    snr_high_db: float = setting(15.0, "Maximum signal-to-noise ratio.", unit="dB", ge=-40, le=60)

    @property
    def source_names(self) -> tuple[str, ...]:
        """One: the audio without the noise."""
        return ("denoised",)

    @property
    def folders(self) -> tuple[tuple[Path, str], ...]:
        """The folders of noise come last."""
        return *super().folders, self.noise_folder("train"), self.noise_folder("valid")

    def noise_folder(self, split: Literal["train", "valid"]) -> tuple[Path, str]:
        """Return the noise folder of a split, and the setting that names it."""
        if split == "valid" and self.noise_valid is not None:
            return self.noise_valid, "data.noise_valid"
        return self.noise, "data.noise"

    def validated_on_training(self) -> Self:
        """Return these data with those of training, and their noise, in place of those of validation."""
        return self.model_copy(update={"valid": self.train, "noise_valid": None})

    @model_validator(mode="after")
    def _range_is_ordered(self) -> DenoiseData:
        if self.snr_low_db > self.snr_high_db:
            raise ValueError(
                f"snr_low_db = {self.snr_low_db} is above snr_high_db = {self.snr_high_db}"
            )
        return self


class StemsData(AudioData):
    """Stem separation: a folder for each track, an audio file for each stem."""

    kind: Literal["stems"] = setting("stems", "Stem separation: one folder per track.")
    layout: Literal["tracks", "libri2mix", "voicebank_demand"] = setting(
        "tracks",
        "Folder layout: tracks: <track>/<stem>.wav, as in MUSDB18-HQ; libri2mix: <stem>/<track>.wav, "
        "speakers in any order; voicebank_demand: clean_*/<track>.wav (train and valid) beside noisy_*.",
    )
    targets: tuple[str, ...] = setting(
        ("vocals",), "Stems to separate: file names without extension.", min_length=1, max_length=8
    )
    others: tuple[str, ...] = setting(
        ("accompaniment",), "Stems that are part of the mixture but not separated.", max_length=8
    )
    mixture: str = setting(
        "", "File name of the mixture without extension; empty: the sum of targets and others."
    )
    remix: float = setting(
        0.0, "Fraction of training items whose stems come from different tracks.", ge=0, le=1
    )
    gain_db: float = setting(
        0.0,
        "Maximum random gain change of a training stem (plus or minus).",
        unit="dB",
        ge=0,
        le=40,
    )
    flip_polarity: bool = setting(
        False, "Invert the polarity of each training stem with probability 0.5."
    )
    swap_channels: bool = setting(
        False, "Swap the left and right channel of each training stem with probability 0.5."
    )
    speed_percent: int = setting(
        0,
        "Maximum random speed change of the training audio (plus or minus), including pitch.",
        unit="%",
        ge=0,
        le=25,
    )
    mix_on: Literal["auto", "readers", "device"] = setting(
        "auto",
        "Where augmented stems are mixed: in the data loaders (readers) or on the device. auto: on the "
        "device if it is a GPU and others has at most one stem. The result is the same.",
    )

    @property
    def source_names(self) -> tuple[str, ...]:
        """The target stems."""
        return self.targets

    @property
    def interchangeable(self) -> bool:
        """Whether the targets are speakers, which have no order."""
        return self.layout == "libri2mix"

    @model_validator(mode="after")
    def _stems_are_distinct(self) -> StemsData:
        names = [*self.targets, *self.others]
        if len(set(names)) != len(names):
            raise ValueError(f"targets and others must be distinct, found {names}")
        return self

    @property
    def changes_stems(self) -> bool:
        """Whether training stems are augmented and mixed again, rather than used unchanged."""
        switches = self.flip_polarity or self.swap_channels
        return switches or max(self.remix, self.gain_db, self.speed_percent) > 0

    def mixes_on_device(self, *, gpu: bool) -> bool:
        """Follow `mix_on` where stems are changed; auto mixes on a GPU if that sends no more."""
        if not self.changes_stems:
            return False
        if self.mix_on == "auto":
            # Stems in place of mixture and targets are no more to send: then readers save a fifth.
            return gpu and len(self.others) <= 1
        return self.mix_on == "device"

    @model_validator(mode="after")
    def _changed_stems_are_summed(self) -> StemsData:
        if self.changes_stems and self.mixture:
            raise ValueError(
                f"mixture = {self.mixture!r} is read from file, so its stems can't be augmented (remix, "
                "gain_db, flip_polarity, swap_channels, speed_percent); set mixture = '' to sum the stems"
            )
        if self.changes_stems and self.short_files == "whole":
            raise ValueError(
                "short_files = 'whole', but augmented stems (remix, gain_db, flip_polarity, swap_channels, "
                "speed_percent) require segments of equal length; set short_files = 'pad'"
            )
        if self.swap_channels and self.channels == 1:
            raise ValueError("swap_channels = true requires channels = 2, found channels = 1")
        return self


class SpeakersData(AudioData):
    """Speaker separation: one folder per speaker; different speakers talk simultaneously."""

    kind: Literal["speakers"] = setting(
        "speakers", "Speaker separation: one folder per speaker; mixtures are drawn at random."
    )
    num_speakers: int = setting(2, "Number of speakers in a mixture.", ge=2, le=4)
    held_out: str = setting(
        "",
        "Pattern of the file names used for validation, like *_0[0-4].flac; all other files are used "
        "for training; empty: use all files of each folder.",
    )
    level_range_db: float = setting(
        5.0,
        "Maximum level difference to the first speaker (plus or minus).",
        unit="dB",
        ge=0,
        le=40,
    )

    @model_validator(mode="after")
    def _speakers_fill_segments(self) -> SpeakersData:
        if self.short_files == "whole":
            raise ValueError(
                "short_files = 'whole', but speakers of a mixture must have equal length; set short_files = 'pad'"
            )
        return self

    @property
    def splits_by_name(self) -> bool:
        """Files held out by name may lie beside those that are trained on."""
        return bool(self.held_out)

    @property
    def source_names(self) -> tuple[str, ...]:
        """One for each speaker, in arbitrary order."""
        return tuple(f"speaker{number + 1}" for number in range(self.num_speakers))

    @property
    def interchangeable(self) -> bool:
        """Always: speakers have no order."""
        return True


def accept_data(point: EntryPoint, value: object) -> type[DataSettings]:
    """Return the settings that an entry point names.

    Raises:
        TypeError: when they break a rule.
    """
    data = accept_section(point, value, base=DataSettings)
    if not data.recipes:
        raise TypeError(f"{point.value} declares no recipes that train on it")
    if not data.default_loss:
        raise TypeError(f"{point.value} declares no default_loss")
    check_target(data.handler, f"{point.value}: handler")
    return data


BuiltInData = (
    BandwidthData | DenoiseData | StemsData | SpeakersData | SpeechData | VoiceData | UnlabelledData
)
