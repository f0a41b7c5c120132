"""Files of TorToiSe's layout with drawn weights, and what its networks compute, written from the facts alone.

Names and shapes are those of neonbjb/tortoise-tts and neonbjb/DL-Art-School; nothing here uses the code under test.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as fn

Shapes = dict[str, tuple[int, ...]]
BANDS = 80


@dataclass(frozen=True)
class Sizes:
    """The published ones by default."""

    layers: int = 30
    dim: int = 1_024
    heads: int = 16
    text_rows: int = 256
    mel_rows: int = 8_194
    text_places: int = 404
    mel_places: int = 608
    reference_layers: int = 6
    hidden: int = 512
    code_dim: int = 512
    blocks: int = 3


MERGES = ["t h", "th e", "a n", "an d", "a t", "the n"]
SMALL = Sizes(
    layers=2, dim=32, heads=4, mel_rows=50, text_places=40, mel_places=60, reference_layers=2, hidden=16,
    code_dim=12, blocks=2, text_rows=3 + 30 + len(MERGES) + 1,
)  # fmt: skip


def voice_shapes(size: Sizes) -> Shapes:
    """Return the tensors of `autoregressive.pth`."""
    dim = size.dim
    shapes: Shapes = {
        "text_embedding.weight": (size.text_rows, dim), "mel_embedding.weight": (size.mel_rows, dim),
        "text_pos_embedding.emb.weight": (size.text_places, dim),
        "mel_pos_embedding.emb.weight": (size.mel_places, dim),
        "conditioning_encoder.init.weight": (dim, BANDS, 1), "conditioning_encoder.init.bias": (dim,),
        "text_head.weight": (size.text_rows, dim), "text_head.bias": (size.text_rows,),
        "mel_head.weight": (size.mel_rows, dim), "mel_head.bias": (size.mel_rows,),
    }  # fmt: skip
    for norm in ("final_norm", "gpt.ln_f"):
        shapes |= {f"{norm}.weight": (dim,), f"{norm}.bias": (dim,)}
    for n in range(size.reference_layers):
        block = f"conditioning_encoder.attn.{n}"
        shapes |= {f"{block}.norm.weight": (dim,), f"{block}.norm.bias": (dim,)}
        shapes |= {f"{block}.qkv.weight": (3 * dim, dim, 1), f"{block}.qkv.bias": (3 * dim,)}
        shapes |= {f"{block}.proj_out.weight": (dim, dim, 1), f"{block}.proj_out.bias": (dim,)}
    for n in range(size.layers):
        layer = f"gpt.h.{n}"
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"{layer}.{norm}.weight": (dim,), f"{layer}.{norm}.bias": (dim,)}
        for name, rows, columns in (
            ("attn.c_attn", dim, 3 * dim), ("attn.c_proj", dim, dim), ("mlp.c_fc", dim, 4 * dim),
            ("mlp.c_proj", 4 * dim, dim),
        ):  # fmt: skip
            shapes |= {
                f"{layer}.{name}.weight": (rows, columns),
                f"{layer}.{name}.bias": (columns,),
            }
    return shapes


def dvae_shapes(size: Sizes) -> Shapes:
    """Return the tensors of `dvae.pth`: two strided layers, then residual blocks; mirrored."""
    wide, codes = 2 * size.hidden, size.mel_rows - 2
    shapes: Shapes = {
        "codebook.embed": (size.code_dim, codes), "codebook.embed_avg": (size.code_dim, codes),
        "codebook.cluster_size": (codes,),
    }  # fmt: skip
    blocks = size.blocks
    convolutions = [
        ("encoder.0.0", size.hidden, BANDS, 3), ("encoder.1.0", wide, size.hidden, 3),
        (f"encoder.{2 + blocks}", size.code_dim, wide, 1), ("decoder.0", wide, size.code_dim, 1),
        (f"decoder.{1 + blocks}.0.conv", wide, wide, 3), (f"decoder.{2 + blocks}.0.conv", size.hidden, wide, 3),
        (f"decoder.{3 + blocks}", BANDS, size.hidden, 1),
    ]  # fmt: skip
    for side, first in (("encoder", 2), ("decoder", 1)):
        for n in range(blocks):
            block = f"{side}.{first + n}.net"
            convolutions += [
                (f"{block}.{k}", wide, wide, kernel) for k, kernel in ((0, 3), (2, 3), (4, 1))
            ]
    for name, out, into, kernel in convolutions:
        shapes |= {f"{name}.weight": (out, into, kernel), f"{name}.bias": (out,)}
    return shapes


def drawn(shapes: Shapes, seed: int) -> dict[str, Tensor]:
    """Return weights large enough that each of them matters."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        wide = shape[0] if name.startswith("gpt.h.") else shape[1] if len(shape) > 1 else 1
        scale = 0.2 if len(shape) < 2 or "embedding" in name else 1.2 / wide**0.5
        if name == "codebook.embed":
            scale = 1.0
        tensors[name] = scale * torch.randn(shape, generator=generator)
        if "norm.weight" in name or ("ln_" in name and name.endswith("weight")):
            tensors[name] += 1
    if "codebook.cluster_size" in tensors:
        tensors["codebook.cluster_size"] = torch.rand(
            shapes["codebook.cluster_size"], generator=generator
        )
    return tensors


def tokenizer_json(extra: str = "") -> str:
    """Return a tokenizer of the published layout: BPE, split at white space, with three control tokens."""
    names = [
        "[STOP]",
        "[UNK]",
        "[SPACE]",
        *"abcdefghijklmnopqrstuvwxyz.,!'",
        *(m.replace(" ", "") for m in MERGES),
    ]
    vocabulary = {name: token for token, name in enumerate([*names, *extra])}
    control = {
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    return json.dumps(
        {
            "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
            "added_tokens": [{"id": n, "content": names[n], **control} for n in range(3)],
            "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
            "model": {
                "type": "BPE", "dropout": None, "unk_token": "[UNK]", "continuing_subword_prefix": None,
                "end_of_word_suffix": None, "fuse_unk": False, "vocab": vocabulary, "merges": MERGES,
            },
        }
    )  # fmt: skip


def write_files(folder: Path, size: Sizes = SMALL) -> Path:
    """Write the four files, as torch.save does; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    voice = drawn(voice_shapes(size), 1)
    # What older versions of transformers saved beside the weights.
    voice["gpt.h.0.attn.bias"] = torch.ones(1, 1, 8, 8).tril()
    voice["gpt.h.0.attn.masked_bias"] = torch.tensor(-1e4)
    torch.save(voice, folder / "autoregressive.pth")
    torch.save(drawn(dvae_shapes(size), 2), folder / "dvae.pth")
    norms = 1 + torch.rand(BANDS, generator=torch.Generator().manual_seed(3))
    torch.save(norms, folder / "mel_norms.pth")
    (folder / "tokenizer.json").write_text(tokenizer_json())
    return folder


def log_mel(wave_BT: Tensor, norms_F: Tensor) -> Tensor:
    """Return (B, F, L): power spectrogram, HTK scale, Slaney's norm, up to 8 kHz."""
    from torchaudio.transforms import MelSpectrogram

    transform = MelSpectrogram(
        22_050, n_fft=1_024, win_length=1_024, hop_length=256, f_min=0, f_max=8_000, n_mels=BANDS, power=2,
        norm="slaney",
    )  # fmt: skip
    return transform(wave_BT).clamp(min=1e-5).log() / norms_F[:, None]


def conditioning(tensors: dict[str, Tensor], mel_BFL: Tensor, size: Sizes) -> Tensor:
    """Return (B, D): attention blocks over frames, the first of them."""
    part = {k.removeprefix("conditioning_encoder."): v for k, v in tensors.items()}
    x = fn.conv1d(mel_BFL, part["init.weight"], part["init.bias"])
    batch, dim, frames = x.shape
    groups = 16 if 16 < dim <= 64 else 32
    each = dim // size.heads
    for n in range(size.reference_layers):
        block = f"attn.{n}"
        y = fn.group_norm(x, groups, part[f"{block}.norm.weight"], part[f"{block}.norm.bias"])
        y = fn.conv1d(y, part[f"{block}.qkv.weight"], part[f"{block}.qkv.bias"])
        q, k, v = y.reshape(batch * size.heads, 3 * each, frames).split(each, dim=1)
        weight = torch.einsum("bct,bcs->bts", q, k / each**0.5).softmax(-1)
        a = torch.einsum("bts,bcs->bct", weight, v).reshape(batch, dim, frames)
        x = x + fn.conv1d(a, part[f"{block}.proj_out.weight"], part[f"{block}.proj_out.bias"])
    return x[:, :, 0]


def logits(
    tensors: dict[str, Tensor], conds_BD: Tensor, *, text_BU: Tensor, mel_BN: Tensor, size: Sizes
) -> tuple[Tensor, Tensor]:
    """Return those of text (B, U + 2, V) and of codes (B, N + 2, K), by the GPT-2 of transformers."""
    from transformers import GPT2Config, GPT2Model

    config = GPT2Config(
        vocab_size=1, n_positions=2_048, n_embd=size.dim, n_layer=size.layers, n_head=size.heads
    )
    gpt = GPT2Model(config).eval()
    state = {k.removeprefix("gpt."): v for k, v in tensors.items() if k.startswith("gpt.")}
    missing, _ = gpt.load_state_dict(state, strict=False)
    assert set(missing) == {"wte.weight", "wpe.weight"}
    with torch.no_grad():
        gpt.wpe.weight.zero_()
    start, stop = size.mel_rows - 2, size.mel_rows - 1
    text = fn.pad(fn.pad(text_BU, (0, 1), value=0), (1, 0), value=size.text_rows - 1)
    mel = fn.pad(fn.pad(mel_BN, (0, 1), value=stop), (1, 0), value=start)
    embedded = [
        tensors[f"{name}_embedding.weight"][ids]
        + tensors[f"{name}_pos_embedding.emb.weight"][: ids.shape[1]]
        for name, ids in (("text", text), ("mel", mel))
    ]
    out = gpt(inputs_embeds=torch.cat([conds_BD[:, None], *embedded], dim=1)).last_hidden_state
    out = fn.layer_norm(out, (size.dim,), tensors["final_norm.weight"], tensors["final_norm.bias"])[
        :, 1:
    ]
    of_text, of_mel = out[:, : text.shape[1]], out[:, text.shape[1] :]
    return (
        fn.linear(of_text, tensors["text_head.weight"], tensors["text_head.bias"]),
        fn.linear(of_mel, tensors["mel_head.weight"], tensors["mel_head.bias"]),
    )


def _block(tensors: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    y = fn.relu(fn.conv1d(x, tensors[f"{name}.0.weight"], tensors[f"{name}.0.bias"], padding=1))
    y = fn.relu(fn.conv1d(y, tensors[f"{name}.2.weight"], tensors[f"{name}.2.bias"], padding=1))
    return x + fn.conv1d(y, tensors[f"{name}.4.weight"], tensors[f"{name}.4.bias"])


def dvae_codes(tensors: dict[str, Tensor], mel_BFL: Tensor, size: Sizes) -> Tensor:
    """Return (B, N) the nearest entry of the codebook for every four frames."""
    x = mel_BFL
    for n in (0, 1):
        name = f"encoder.{n}.0"
        x = fn.relu(
            fn.conv1d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], stride=2, padding=1)
        )
    for n in range(size.blocks):
        x = _block(tensors, f"encoder.{2 + n}.net", x)
    last = f"encoder.{2 + size.blocks}"
    z_BND = fn.conv1d(x, tensors[f"{last}.weight"], tensors[f"{last}.bias"]).transpose(1, 2)
    return torch.cdist(z_BND, tensors["codebook.embed"].T[None]).argmin(dim=-1)


def dvae_mel(tensors: dict[str, Tensor], codes_BN: Tensor, size: Sizes) -> Tensor:
    """Return (B, F, L) of codes."""
    x = tensors["codebook.embed"].T[codes_BN].transpose(1, 2)
    x = fn.conv1d(x, tensors["decoder.0.weight"], tensors["decoder.0.bias"])
    for n in range(size.blocks):
        x = _block(tensors, f"decoder.{1 + n}.net", x)
    for n in (1, 2):
        name = f"decoder.{n + size.blocks}.0.conv"
        x = x.repeat_interleave(2, dim=2)
        x = fn.relu(fn.conv1d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], padding=1))
    last = f"decoder.{3 + size.blocks}"
    return fn.conv1d(x, tensors[f"{last}.weight"], tensors[f"{last}.bias"])
