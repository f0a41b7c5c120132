"""Nobody tests which kind data are: the table of `engine.data.kinds` is asked instead."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGES = ["tui", "jobs", "engine", "models", "presets"]
KINDS = {
    "AudioData", "BandwidthData", "DenoiseData", "StemsData", "SpeakersData", "SpeechData",
    "UnlabelledData",
}  # fmt: skip
NAMES = {"bandwidth", "denoise", "stems", "speakers", "speech", "unlabelled"}
# What everything but a kind's own modules may still do: narrow a type, where another kind is a bug.
SEEN = ast.Call | ast.MatchClass | ast.Compare


def decisions_by_kind(source: str) -> list[str]:
    """Lines that decide by the kind of data: isinstance, `match`, or a comparison of its name."""
    tree = ast.parse(source)
    asserted = {
        inner for node in ast.walk(tree) if isinstance(node, ast.Assert) for inner in ast.walk(node)
    }
    return [
        f"{node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(tree)
        if isinstance(node, SEEN) and node not in asserted and _decides(node)
    ]


def _decides(node: ast.expr | ast.pattern) -> bool:
    match node:
        case ast.Call(func=ast.Name(id="isinstance" | "issubclass"), args=[_, classes]):
            return bool({n.id for n in ast.walk(classes) if isinstance(n, ast.Name)} & KINDS)
        case ast.MatchClass(cls=ast.Name(id=name)):
            return name in KINDS
        case ast.Compare(left=left, comparators=comparators):
            values = {
                n.value for c in comparators for n in ast.walk(c) if isinstance(n, ast.Constant)
            }
            return bool(values & NAMES) and "kind" in ast.unparse(left)
        case _:
            return False


def test_no_module_decides_by_the_kind_of_data(repository: Path) -> None:
    deciding = [
        f"{path.relative_to(repository)}:{line}"
        for package in PACKAGES
        for path in sorted((repository / package).rglob("*.py"))
        for line in decisions_by_kind(path.read_text())
    ]
    assert deciding == []


@pytest.mark.parametrize(
    "source",
    [
        "if isinstance(config.data, SpeechData): pass",
        "x = isinstance(data, (StemsData, SpeakersData))",
        "x = not isinstance(data, StemsData | AudioData)",
        "match data:\n    case DenoiseData():\n        pass",
        "if config.data.kind == 'speech': pass",
        "if data.get('kind') in ('stems', 'speakers'): pass",
    ],
)
def test_the_guard_sees_a_test_of_a_kind(source: str) -> None:
    assert len(decisions_by_kind(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "assert isinstance(config.data, SpeechData)",
        "x = isinstance(dataset, StemsDataset)",
        "if item.kind == 'rows': pass",
    ],
)
def test_the_guard_lets_narrowing_pass(source: str) -> None:
    assert decisions_by_kind(source) == []
