"""Makes checkpoints of TorToiSe's autoregressive model and of its DVAE: a voice to start from, and a codec.

Both work on one spectrogram: 80 bands of HTK's mel scale up to 8 kHz over the power of 1024 samples every 256 at 22.05
kHz, natural logarithm, each band divided by a number of `mel_norms.pth`. What a network is, its shapes say; nothing is
made anew. Letters: F mel bands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.checkpoints.layout import IMPORTED
from engine.checkpoints.recipe_files import RecipeParts
from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.exchange.imported import write_imported
from engine.exchange.tortoise_names import Spelt, codec_names, part_of, voice_names, voice_there
from engine.exchange.weight_files import Weights, WeightsError, read_tensor, read_weights
from engine.recipes.codec.trained_codec import STAGE, TrainedCodec
from engine.recipes.voice.speaking import build_network
from engine.recipes.voice.voices_stage import NAME, Voices
from engine.text.bpe import BpeTokenizer
from engine.text.english import missing
from models.codec.codebook import Codebook
from models.codec.mel_codec import MelCodec
from models.codec.settings import MelCodecConfig

RATE_HZ = 22_050
_MEL = {
    "n_fft": 1_024, "hop": 256, "f_min_hz": 0.0, "f_max_hz": 8_000.0, "spectrum": "power", "mel_scale": "htk",
    "activation": "relu", "encoder_norm": "none", "output_kernel": 1,
}  # fmt: skip
# Both are set in its code, not in its files.
_STRIDE, _WIDTH_OF_A_HEAD = 2, 64
# Clips that its program makes a voice of.
_CLIP_S = 6.0
_MOST_NAMED = 6
_SIZED_BY = (
    "text_embedding.weight", "text_positions.weight", "code_embedding.weight", "code_positions.weight",
    "reference_encoder.start.weight",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TortoiseFiles:
    """What a person names beside the file of weights; None where it was not named."""

    dvae: Path | None = None
    tokenizer: Path | None = None
    mel_norms: Path | None = None
    heads: int | None = None

    def __bool__(self) -> bool:
        """Return whether a file was named."""
        return any((self.dvae, self.tokenizer, self.mel_norms))


@dataclass(frozen=True, slots=True)
class ImportedPart:
    """What was made of a file.

    Attributes:
        folder: the checkpoint.
        config: of the run that would have trained it.
        codec: hash of the codec.
        num_loaded: tensors taken over.
        idle: names in the file of what is of no use.
    """

    folder: Path
    config: RunConfig
    codec: str
    num_loaded: int
    idle: tuple[str, ...] = ()


def import_tortoise(weights: Weights, *, out: Path, files: TortoiseFiles) -> ImportedPart:
    """Write the checkpoint of a voice, or of a codec, of a file of either.

    Raises:
        WeightsError: when a file is missing, damaged, of another model, or does not belong to the others.
        ConfigError: when its sizes are outside what is supported.
        ValueError: when the folder already exists.
    """
    if out.exists():
        raise ValueError(f"{out} already exists; choose a new folder")
    if part_of(weights.tensors) == "codec":
        if files.dvae or files.tokenizer:
            raise WeightsError(
                f"{weights.path} is the DVAE; name the autoregressive model there, and the DVAE by --dvae"
            )
        codec, config, loaded = _codec(weights, files.mel_norms)
        parts = RecipeParts()
        write_imported(out, config, model=codec.network, parts=parts)
        return ImportedPart(out, config, codec.facts.hash, loaded)
    return _import_voice(weights, out=out, files=files)


def _import_voice(weights: Weights, *, out: Path, files: TortoiseFiles) -> ImportedPart:
    lacking = [
        option
        for option, file in (
            ("--dvae", files.dvae), ("--tokenizer", files.tokenizer), ("--mel-norms", files.mel_norms),
        )
        if file is None
    ]  # fmt: skip
    if lacking:
        raise WeightsError(
            f"{weights.path} is an autoregressive model of TorToiSe, which speaks the codes of a DVAE and reads the "
            f"tokens of a tokenizer: add {', '.join(lacking)}"
        )
    assert files.dvae is not None
    assert files.tokenizer is not None
    spelt = voice_names(weights.tensors)
    tensors = _turned(weights, spelt)
    settings = voice_settings(tensors, heads=files.heads, path=weights.path)
    codec, _, _ = _codec(read_weights(files.dvae), files.mel_norms)
    num_codes = len(tensors["code_embedding.weight"]) - 2
    if codec.facts.num_codes != num_codes:
        raise WeightsError(
            f"{files.dvae} has {codec.facts.num_codes} codes, but the model in {weights.path} speaks {num_codes}; "
            "name the DVAE that it was trained with"
        )
    if (
        bands := tensors["reference_encoder.start.weight"].shape[1]
    ) != codec.facts.transform.num_mels:
        raise WeightsError(
            f"{files.dvae} has {codec.facts.transform.num_mels} mel bands, but the conditioning encoder in "
            f"{weights.path} has {bands}; name the DVAE that it was trained with"
        )
    tokenizer = _tokenizer(files.tokenizer, len(tensors["text_embedding.weight"]) - 1)
    config = load_config(
        {
            "data": {
                "kind": "voice", "train": IMPORTED, "valid": IMPORTED, "rate_hz": RATE_HZ, "tokens": "bpe",
                "reference_s": _CLIP_S,
            },
            "model": {"kind": "voice_gpt", **settings},
            "loss": {"kind": "voice"},
            "codec": IMPORTED,
        }
    )  # fmt: skip
    network = build_network(config.model, facts=codec.facts, tokenizer=tokenizer)  # type: ignore[arg-type]
    network.normalise_by(codec.network.mean_F, codec.network.std_F)
    fill(network, tensors, spelt=spelt, path=weights.path)
    # Nothing in its files says how fast it speaks: only the model's places end what does not stop.
    voices = Voices(float(network.max_codes), {})
    parts = RecipeParts(None, {STAGE: codec.to_result(), NAME: voices.to_result()})
    write_imported(out, config, model=network, parts=parts)
    return ImportedPart(out, config, codec.facts.hash, len(tensors), idle=spelt.idle)


def voice_settings(
    tensors: Mapping[str, Tensor], *, heads: int | None, path: Path
) -> dict[str, Any]:
    """Return the settings of the voice model that tensors, in the names of here, belong to.

    Raises:
        WeightsError: when a tensor that tells a size is missing, or they don't tell the number of heads.
    """
    lacking = [
        voice_there(name) for name in _SIZED_BY if name not in tensors or tensors[name].ndim < 2
    ]
    if lacking:
        raise WeightsError(
            f"{path} is no autoregressive model of TorToiSe: it lacks {_named(lacking)}"
        )
    dim = tensors["text_embedding.weight"].shape[1]
    if heads is None:
        if dim % _WIDTH_OF_A_HEAD:
            raise WeightsError(
                f"{path} has width {dim}, for which no number of heads is published; give it by --heads"
            )
        heads = dim // _WIDTH_OF_A_HEAD
    return {
        "layers": _count(tensors, r"stack\.layers\.(\d+)\..*"), "dim": dim, "heads": heads,
        "max_text": len(tensors["text_positions.weight"]), "max_codes": len(tensors["code_positions.weight"]),
        "reference_layers": _count(tensors, r"reference_encoder\.blocks\.(\d+)\..*"),
        "reference_vectors": "one",
    }  # fmt: skip


def fill(network: nn.Module, tensors: Mapping[str, Tensor], *, spelt: Spelt, path: Path) -> None:
    """Load tensors, in the names of here, into a network of their sizes.

    Raises:
        WeightsError: in one message, with every kind of misfit: what is missing, unknown, of another shape.
    """
    fresh = network.state_dict()
    own = {
        "vocabulary",
        "reference_encoder.mean_F",
        "reference_encoder.std_F",
        "mean_F",
        "std_F",
        "quantiser.started",
    }
    back = {here: name for name, here in spelt.names.items()}
    wrong = [
        f"{back[name]} {_shape(_lying(tensors[name], back[name], spelt=spelt))} (expected "
        f"{_shape(_lying(fresh[name], back[name], spelt=spelt))})"
        for name in tensors
        if name in fresh and tensors[name].shape != fresh[name].shape
    ]
    problems = [
        (what, found)
        for what, found in (
            (
                "missing",
                [spelt.there(name) for name in fresh if name not in tensors and name not in own],
            ),
            (
                "unexpected",
                [*spelt.unknown, *(back[name] for name in tensors if name not in fresh)],
            ),
            ("of another shape", wrong),
        )
        if found
    ]
    if problems:
        listed = "; ".join(f"{what}: {_named(found)}" for what, found in problems)
        raise WeightsError(f"{path} does not have the layout of TorToiSe's model; {listed}")
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise WeightsError(f"{path}: {back[name]} has values that are not finite")
        fresh[name].copy_(tensor)


def _codec(weights: Weights, mel_norms: Path | None) -> tuple[TrainedCodec, RunConfig, int]:
    """Return the codec of a DVAE, its config, and how many tensors were taken."""
    path = weights.path
    if part_of(weights.tensors) != "codec":
        raise WeightsError(f"{path} is no DVAE of TorToiSe: it lacks codebook.embed")
    if mel_norms is None:
        raise WeightsError(
            f"{path} works on a spectrogram whose bands are divided by the numbers of mel_norms.pth, which TorToiSe "
            "distributes beside it; name that file by --mel-norms"
        )
    strides = _count(weights.tensors, r"(?:module\.)?encoder\.(\d+)\.0\.weight")
    blocks = _residual_blocks(weights.tensors)
    spelt = codec_names(weights.tensors, strides=strides, blocks=blocks)
    tensors = _turned(weights, spelt)
    # Convolutions of one frame are linear layers here.
    for name in ("to_codes.weight", "from_codes.weight"):
        if name in tensors and tensors[name].ndim == 3 and tensors[name].shape[2] == 1:
            tensors[name] = tensors[name][:, :, 0]
    settings = _codec_settings(tensors, strides=strides, blocks=blocks, path=path)
    values = {
        "data": {"kind": "unlabelled", "train": IMPORTED, "valid": IMPORTED, "rate_hz": RATE_HZ},
        "model": settings,
        "loss": {"kind": "mel_codec"},
    }
    config = load_config(values)
    assert isinstance(config.model, MelCodecConfig)
    network = MelCodec(config.model)
    fill(network, tensors, spelt=spelt, path=path)
    assert isinstance(network.quantiser, Codebook)
    network.quantiser.started.fill_(1)
    network.normalise_by(
        torch.zeros(config.model.mel_bands), _norms(mel_norms, config.model.mel_bands)
    )
    codec = TrainedCodec(config.model, network, rate_hz=RATE_HZ, source=path.name)
    return codec, config, len(tensors)


def _codec_settings(
    tensors: Mapping[str, Tensor], *, strides: int, blocks: int, path: Path
) -> dict[str, Any]:
    convolutions = [tensors.get(f"encoder.{2 * k}.weight") for k in range(strides)]
    codes_KD = tensors["quantiser.codes_KD"]
    if (
        not strides
        or codes_KD.ndim != 2
        or any(one is None or one.ndim != 3 for one in convolutions)
    ):
        raise WeightsError(
            f"{path} is no DVAE of TorToiSe: expected codebook.embed (2 dimensions) and convolutions encoder.0.0.weight, ... "
            "(3 dimensions)"
        )
    return {
        "kind": "mel_codec", **_MEL, "mel_bands": convolutions[0].shape[1],  # type: ignore[union-attr]
        "channels": [len(one) for one in convolutions if one is not None], "strides": [_STRIDE] * strides,
        "residual_blocks": blocks, "quantiser": "vq", "codes": len(codes_KD), "code_dim": codes_KD.shape[1],
    }  # fmt: skip


def _residual_blocks(names: Mapping[str, Tensor]) -> int:
    found = {
        match[1]
        for name in names
        if (match := re.fullmatch(r"(?:module\.)?encoder\.(\d+)\.net\..*", name))
    }
    return len(found)


def _turned(weights: Weights, spelt: Spelt) -> dict[str, Tensor]:
    """Return the tensors by the names of here, as they lie here, in float32."""
    return {
        here: _lying(weights.tensors[name], name, spelt=spelt).to(torch.float32)
        for name, here in spelt.names.items()
    }


def _lying(tensor: Tensor, name: str, *, spelt: Spelt) -> Tensor:
    """Return a tensor as it lies in a file."""
    return tensor.T if name in spelt.transposed and tensor.ndim == 2 else tensor


def _norms(path: Path, bands: int) -> Tensor:
    norms_F = read_tensor(path).to(torch.float32)
    if norms_F.shape != (bands,) or not (norms_F.isfinite().all() and (norms_F > 0).all()):
        raise WeightsError(
            f"{path} has {_shape(norms_F)} numbers, expected one for each of {bands} mel bands, above 0"
        )
    return norms_F


def _tokenizer(path: Path, num_trained: int) -> BpeTokenizer:
    if lacking := missing():
        raise WeightsError(f"--tokenizer requires {lacking}")
    try:
        tokenizer = BpeTokenizer(path.read_text(encoding="utf-8"), num_trained)
        tokenizer.encode("a b")
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} can't be read: {error}") from None
    except Exception as error:  # noqa: BLE001 the package has no class of errors
        raise WeightsError(f"{path} {' '.join(str(error).split())[:200]}") from None
    return tokenizer


def _count(names: Mapping[str, Tensor], pattern: str) -> int:
    """Return the highest number in names, plus one."""
    found = [int(match[1]) for name in names if (match := re.fullmatch(pattern, name))]
    return max(found, default=-1) + 1


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _named(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
