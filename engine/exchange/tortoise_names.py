"""What the tensors of TorToiSe's files are called here, and how some of them lie there. Free of torch.

Layouts: the autoregressive model of neonbjb/tortoise-tts (`autoregressive.py`: a GPT-2 of transformers, whose linear
layers are transposed, between embeddings and heads of its own), as DL-Art-School and its successors also save it; and
the DVAE of neonbjb/DL-Art-School (`lucidrains_dvae.py`). Letters: N layers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

Part = Literal["voice", "codec"]
_PREFIX = "module."
# name there -> name here; `{i}` a number, `{p}` weight or bias.
_VOICE: tuple[tuple[str, str], ...] = (
    ("conditioning_encoder.init.{p}", "reference_encoder.start.{p}"),
    ("conditioning_encoder.attn.{i}.norm.{p}", "reference_encoder.blocks.{i}.norm.{p}"),
    ("conditioning_encoder.attn.{i}.qkv.{p}", "reference_encoder.blocks.{i}.qkv.{p}"),
    ("conditioning_encoder.attn.{i}.proj_out.{p}", "reference_encoder.blocks.{i}.out.{p}"),
    ("text_embedding.weight", "text_embedding.weight"),
    ("text_pos_embedding.emb.weight", "text_positions.weight"),
    ("mel_embedding.weight", "code_embedding.weight"),
    ("mel_pos_embedding.emb.weight", "code_positions.weight"),
    ("gpt.h.{i}.ln_1.{p}", "stack.layers.{i}.attention_norm.{p}"),
    ("gpt.h.{i}.attn.c_attn.{p}", "stack.layers.{i}.attention.qkv.{p}"),
    ("gpt.h.{i}.attn.c_proj.{p}", "stack.layers.{i}.attention.out.{p}"),
    ("gpt.h.{i}.ln_2.{p}", "stack.layers.{i}.feed_norm.{p}"),
    ("gpt.h.{i}.mlp.c_fc.{p}", "stack.layers.{i}.up.{p}"),
    ("gpt.h.{i}.mlp.c_proj.{p}", "stack.layers.{i}.down.{p}"),
    ("gpt.ln_f.{p}", "stack.norm.{p}"),
    ("final_norm.{p}", "final_norm.{p}"),
    ("text_head.{p}", "text_head.{p}"),
    ("mel_head.{p}", "code_head.{p}"),
)
# Transposed linear layers ("Conv1D") of GPT-2.
_TRANSPOSED = re.compile(
    r"gpt\.h\.\d+\.(?:attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight"
)
# Masks that older versions of transformers saved, copies that speaking makes, parts that nothing reads.
_IDLE = re.compile(
    r"gpt\.h\.\d+\.attn\.(?:bias|masked_bias)|gpt\.w[tp]e\.weight|inference_model\..*|(?:mel|text)_solo_embedding"
)
_BLOCK = re.compile(r"(encoder|decoder)\.(\d+)\.(.+)")
_CODEBOOK = {
    "codebook.embed": "quantiser.codes_KD", "codebook.cluster_size": "quantiser.use_K",
    "codebook.embed_avg": "quantiser.sum_KD",
}  # fmt: skip
_VALUES = {"{i}": r"(\d+)", "{p}": "(weight|bias)"}


@dataclass(frozen=True, slots=True)
class Spelt:
    """Names of a file in the spelling of here.

    Attributes:
        names: name in the file -> name here.
        transposed: names in the file of tensors that lie the other way round.
        idle: names in the file that are known, and of no use.
        unknown: names in the file that belong to no such model.
        there: name here -> name in such a file.
    """

    names: dict[str, str]
    transposed: frozenset[str]
    idle: tuple[str, ...]
    unknown: tuple[str, ...]
    there: Callable[[str], str]


def part_of(names: Iterable[str]) -> Part | None:
    """Return which of TorToiSe's models has such names; None where neither has."""
    known = {name.removeprefix(_PREFIX) for name in names}
    if known & {"mel_embedding.weight", "mel_head.weight", "text_pos_embedding.emb.weight"}:
        return "voice"
    if known & set(_CODEBOOK):
        return "codec"
    return None


def voice_there(name: str) -> str:
    """Return a name of the voice model as TorToiSe's file has it."""
    for source, target in _VOICE:
        match = _pattern(target).fullmatch(name)
        if match is not None:
            return _filled(source, match)
    return name


def voice_names(names: Iterable[str]) -> Spelt:
    """Return the names of the autoregressive model."""
    found: dict[str, str] = {}
    transposed, idle, unknown = set(), [], []
    for name in names:
        short = name.removeprefix(_PREFIX)
        here = _voice_name(short)
        if here is not None:
            found[name] = here
            if _TRANSPOSED.fullmatch(short):
                transposed.add(name)
        elif _IDLE.fullmatch(short):
            idle.append(name)
        else:
            unknown.append(name)
    return Spelt(found, frozenset(transposed), tuple(idle), tuple(unknown), voice_there)


def codec_names(names: Iterable[str], *, strides: int, blocks: int) -> Spelt:
    """Return the names of the DVAE.

    Args:
        names: of its file.
        strides: number of its strided convolutions.
        blocks: number of its residual blocks, of either side.
    """
    places = _codec_places(strides, blocks)
    found: dict[str, str] = {}
    unknown = []
    for name in names:
        short = name.removeprefix(_PREFIX)
        here = _CODEBOOK.get(short) or _codec_name(short, places)
        if here is None:
            unknown.append(name)
        else:
            found[name] = here
    transposed = frozenset(name for name in found if name.endswith((".embed", ".embed_avg")))
    back = {here: name for name, here in (places | _CODEBOOK).items()}
    return Spelt(found, transposed, (), tuple(unknown), partial(_codec_there, back=back))


def _codec_places(strides: int, blocks: int) -> dict[str, str]:
    """Return what stands where: the beginnings of names there -> those here."""
    places = {f"encoder.{k}.0": f"encoder.{2 * k}" for k in range(strides)}
    places |= {
        f"encoder.{strides + k}.net": f"encoder.{2 * strides + k}.layers" for k in range(blocks)
    }
    places |= {f"encoder.{strides + blocks}": "to_codes", "decoder.0": "from_codes"}
    places |= {f"decoder.{1 + k}.net": f"decoder.{k}.layers" for k in range(blocks)}
    places |= {
        f"decoder.{1 + blocks + k}.0.conv": f"decoder.{blocks + 3 * k + 1}" for k in range(strides)
    }
    return places | {f"decoder.{1 + blocks + strides}": f"decoder.{blocks + 3 * strides}"}


def _codec_name(name: str, places: Mapping[str, str]) -> str | None:
    module, _, kind = name.rpartition(".")
    if kind not in ("weight", "bias"):
        return None
    if module in places:
        return f"{places[module]}.{kind}"
    # Convolutions of residual blocks are numbered in both.
    block, _, number = module.rpartition(".")
    if block in places and number in ("0", "2", "4"):
        return f"{places[block]}.{number}.{kind}"
    return None


def _codec_there(name: str, back: Mapping[str, str]) -> str:
    if name in back:
        return back[name]
    module, _, kind = name.rpartition(".")
    block, _, number = module.rpartition(".")
    if module in back:
        return f"{back[module]}.{kind}"
    return f"{back[block]}.{number}.{kind}" if block in back else name


def _voice_name(name: str) -> str | None:
    for source, target in _VOICE:
        match = _pattern(source).fullmatch(name)
        if match is not None:
            return _filled(target, match)
    return None


def _filled(template: str, match: re.Match[str]) -> str:
    parts = iter(match.groups())
    return re.sub(r"\{[ip]\}", lambda _: next(parts), template)


@cache
def _pattern(template: str) -> re.Pattern[str]:
    text = re.escape(template)
    for mark, pattern in _VALUES.items():
        text = text.replace(re.escape(mark), pattern)
    return re.compile(text)
