"""A metric is declared once: no other code spells its name, its suffixes or its direction."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from engine.metrics.registry import BUILT_IN

PACKAGES = ["tui", "jobs", "engine", "models", "presets"]
# Where values are computed, and so named; and columns of released versions of the store.
COMPUTED = {
    "engine/measuring/values.py",
    "engine/metrics/measures.py",
    "engine/metrics/built_in.py",
    "engine/metrics/registry.py",
    "engine/metrics/self_supervised.py",
    "engine/programs/transcribe.py",
    "engine/recipes/ctc/recipe.py",
    "engine/recipes/self_supervised/data2vec2.py",
    "engine/recipes/self_supervised/spread.py",
    "engine/recipes/self_supervised/wav2vec2.py",
    "engine/recipes/self_supervised/wav2vec2_watch.py",
    "engine/recipes/separation/file_scores.py",
    "engine/recipes/separation/item_scores.py",
    "engine/recipes/self_supervised/hubert.py",
    "engine/recipes/self_supervised/hubert_evaluation.py",
    "engine/recipes/separation/recipe.py",
    "engine/metrics/codec.py",
    "engine/metrics/judged.py",
    "engine/recipes/codec/code_counts.py",
    "engine/recipes/codec/evaluation.py",
    "engine/recipes/codec/recipe.py",
    "engine/metrics/voice.py",
    "engine/recipes/voice/evaluation.py",
    "engine/recipes/voice/recipe.py",
    "engine/recipes/speech/recipe.py",
    "jobs/store/reader.py",
    "jobs/store/schema.py",
}
# Also names of losses; in files about losses and configs they are no metric.
LOSSES = {"spectral", "si_sdr"}
MERGING = "merging.py"  # of presets, the loss included
SUFFIXES = re.compile(r"^_(ema|full)$|^_full_ema$")


def texts(path: Path) -> list[tuple[int, str]]:
    """Return the string constants of a file with their lines, docstrings left out."""
    tree = ast.parse(path.read_text())
    docs = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docs
    ]


def of_losses(path: Path) -> bool:
    return "loss" in path.name or path.parent.name == "config" or path.name == MERGING


def spelt(path: Path, *, losses: bool) -> list[str]:
    names = {metric.name for metric in BUILT_IN} - (LOSSES if losses else set())
    return [
        f"{path}:{line}: {text!r}"
        for line, text in texts(path)
        if text in names or SUFFIXES.search(text)
    ]


def test_metric_names_are_spelt_where_they_are_computed_only(repository: Path) -> None:
    spellings = [
        spelling
        for package in PACKAGES
        for path in sorted((repository / package).rglob("*.py"))
        if path.relative_to(repository).as_posix() not in COMPUTED
        for spelling in spelt(path, losses=of_losses(path))
    ]
    assert spellings == []


def test_guard_sees_a_metric(tmp_path: Path) -> None:
    file = tmp_path / "table.py"
    file.write_text('"""wer"""\nUNITS = {"wer": "%", f"{name}_ema": "dB"}\n')
    assert len(spelt(file, losses=False)) == 2
