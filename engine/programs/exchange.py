"""`python -m engine.programs.exchange import|export ...`: the process behind `sepdash import` and `sepdash export`.

A user error prints its message on stderr and exits with code 2.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine.start_up import loading
from models.terminal import safe_streams

if TYPE_CHECKING:
    from engine.exchange.importing import Imported
    from engine.exchange.tortoise import ImportedPart

_MOST_NAMED = 8


@safe_streams()
def main(arguments: Sequence[str] | None = None) -> int:
    """Import or export weights and say what was done; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        text = _export(options) if options.verb == "export" else _import(options)
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError) as error:
        sys.stderr.write(f"sepdash: {error}\n")
        return 2
    sys.stdout.write(text)
    return 0


def _export(options: argparse.Namespace) -> str:
    with loading():
        from engine.exchange.exporting import export_model

    done = export_model(options.checkpoint, library=options.format, out=options.out)
    left_out = f"not part of its model: {_named(done.left_out)}\n" if done.left_out else ""
    loads = "".join(f"  {line}\n" for line in done.loads.splitlines())
    return f"wrote {done.folder} for {options.format}; it is loaded by\n{loads}{left_out}"


def _import(options: argparse.Namespace) -> str:
    with loading():
        from engine.exchange.importing import ImportOptions, import_model
        from engine.exchange.sizes import Hints
        from engine.exchange.tortoise import TortoiseFiles, import_tortoise
        from engine.exchange.tortoise_names import part_of
        from engine.exchange.weight_files import WeightsError, read_weights

    weights = read_weights(options.file)
    files = TortoiseFiles(
        options.dvae, options.tokenizer, mel_norms=options.mel_norms, heads=options.heads
    )
    if part_of(weights.tensors) is not None:
        return _summary_of_part(import_tortoise(weights, out=options.out, files=files))
    if files:
        raise WeightsError(
            f"{options.file} is no autoregressive model or DVAE of TorToiSe, to which --dvae, --tokenizer and "
            f"--mel-norms belong (its first tensor: {_named(list(weights.tensors)[:1])})"
        )
    strides = None
    if options.strides:
        strides = tuple(int(stride) for stride in options.strides.split(","))
    done = import_model(
        weights,
        out=options.out,
        options=ImportOptions(
            kind=options.kind,
            hints=Hints(strides, options.heads, options.layer_norm_first),
            normalize_waveform=options.normalize_waveform,
            rate_hz=options.rate_hz or 16_000,
            new_parts=options.new_parts,
            clusters=options.clusters,
            centroids=options.kmeans,
        ),
    )
    return _summary(done)


def _summary(done: Imported) -> str:
    model = done.config.model.model_dump()
    data = done.config.data.model_dump()
    lines = [
        f"wrote {done.folder}: {done.config.model.kind} of {model['layers']} layers of width "
        f"{model['dim']}, {done.num_loaded} tensors from {done.library}",
        f"assumed or read: {model['heads']} heads, strides {', '.join(map(str, model['conv_strides']))}, "
        f"layer norm {'before' if model['layer_norm_first'] else 'after'} each block, waveforms "
        f"{'normalised' if data['normalize_waveform'] else 'not normalised'}, {data['rate_hz']} Hz",
    ]
    if done.new:
        lines.append(f"made anew: {_named(done.new)}")
    if done.unused:
        lines.append(f"not used: {_named(done.unused)}")
    lines += done.notes
    return "\n".join(lines) + "\n"


def _summary_of_part(done: ImportedPart) -> str:
    model = done.config.model.model_dump()
    # A name without a slash would be that of a run.
    place = done.folder if len(done.folder.parts) > 1 else f"./{done.folder}"
    if done.config.recipe == "codec":
        what = f"mel codec of {model['codes']} codes of {model['code_dim']} numbers"
        use = f"codec={place}"
    else:
        what = (
            f"voice of {model['layers']} layers of width {model['dim']} with {model['heads']} heads, places for "
            f"{model['max_text']} tokens and {model['max_codes']} codes"
        )
        use = f"init_from={place} and data.tokens=bpe"
    lines = [
        f"wrote {done.folder}: {what}, {done.num_loaded} tensors from TorToiSe's file; codec {done.codec}",
        f"runs use it with {use}",
    ]
    if done.idle:
        lines.append(f"not used: {_named(done.idle)}")
    return "\n".join(lines) + "\n"


def _named(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    shown = "".join(filter(str.isprintable, ", ".join(names[:_MOST_NAMED])))
    return shown + (f" and {more} more" if more > 0 else "")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m engine.programs.exchange", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    export = verbs.add_parser("export")
    export.add_argument("checkpoint", type=Path)
    export.add_argument("--format", choices=("torchaudio", "transformers"), required=True)
    export.add_argument("--out", type=Path, required=True)
    imports = verbs.add_parser("import")
    imports.add_argument("file", type=Path)
    imports.add_argument("--out", type=Path, required=True)
    imports.add_argument("--kind", choices=("hubert", "wav2vec2"))
    imports.add_argument("--kmeans", type=Path)
    for name in ("--dvae", "--tokenizer", "--mel-norms"):
        imports.add_argument(name, type=Path)
    imports.add_argument("--new-parts", action="store_true")
    imports.add_argument("--clusters", type=int)
    imports.add_argument("--strides")
    imports.add_argument("--heads", type=int)
    imports.add_argument("--rate-hz", type=int)
    yes_or_no = argparse.BooleanOptionalAction
    imports.add_argument("--layer-norm-first", action=yes_or_no, default=None)
    imports.add_argument("--normalize-waveform", action=yes_or_no, default=None)
    return parser


if __name__ == "__main__":
    sys.exit(main())
