"""The docs against the code: nothing stale, no example that fails to parse, nothing from elsewhere."""

from __future__ import annotations

import ast
import difflib
import html
import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

from engine.config.fields import list_settings
from engine.config.overrides import config_with
from engine.metrics.registry import BUILT_IN
from presets.catalogue import Catalogue
from presets.experiment_files import ExperimentFiles
from tests.pages import ROOT, blocks, examples, pages
from tui.cli.group import sepdash

PACKAGES = ["tui", "jobs", "engine", "models", "presets"]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """`docs/generate.py`, which is in no package."""
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lines_of_help(generator: ModuleType) -> Iterator[str]:
    """The command lines of every `--help`, without what a pipe or a comment adds."""
    for context in generator.commands(sepdash):
        for line in generator.examples(context.command.epilog or ""):
            inner = re.search(r"\$\((sepdash [^)]*)\)", line)
            yield inner[1] if inner else re.split(r"\s{2,}| \| | > ", line)[0]


def parse(words: list[str]) -> click.Context:
    """Parse a command line as click does, without running it."""
    command: click.Command = sepdash
    context = click.Context(command, info_name="sepdash", **sepdash.context_settings)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, *words = words
        child = command.get_command(context, name)
        if child is None:
            raise click.UsageError(f"no such command {name!r}")
        command = child
        context = click.Context(command, parent=context, info_name=name)
    return command.make_context(context.info_name, words, parent=context.parent)


def check_names(values: dict[str, object]) -> None:
    """Make sure that presets, experiments and settings of a parsed line exist and fit together."""
    catalogue = Catalogue(ROOT / "examples" / "presets")
    preset = values.get("preset") or next(iter(values.get("words") or ()), None)
    if preset is None and values.get("target") in [info.name for info in catalogue.list()]:
        preset = values["target"]
    if preset is not None and preset != "show":
        config_with(catalogue.read(str(preset)), values.get("assignments") or ())
    experiment = values.get("experiment")
    if "assignments" in values and isinstance(experiment, str) and "preset" not in values:
        shipped = [info.name for info in ExperimentFiles().list()]
        assert experiment.endswith(".toml") or experiment in shipped


@pytest.fixture
def no_files_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a path on a command line name a file that is not there."""
    monkeypatch.setattr(click.Path, "convert", lambda self, value, param, ctx: value)


def problem_of(words: tuple[str, ...]) -> str:
    """What is wrong with a command line, empty when nothing is."""
    if words[0] == "cd":
        return ""
    if words[0] != "sepdash":
        return "is not sepdash"
    try:
        check_names(parse(list(words[1:])).params)
    except (click.UsageError, ValueError, AssertionError) as error:
        return str(error) or type(error).__name__
    return ""


@pytest.mark.usefixtures("no_files_needed")
def test_every_shown_command_line_parses(generator: ModuleType) -> None:
    shown = [(example.page, example.words) for page in pages() for example in examples(page)]
    shown += [("--help", tuple(shlex.split(line))) for line in lines_of_help(generator)]
    assert len(shown) > 100
    wrong = [
        f"{page}: {shlex.join(words)}: {problem}"
        for page, words in shown
        if (problem := problem_of(words))
    ]
    assert wrong == []


@pytest.mark.usefixtures("no_files_needed")
@pytest.mark.parametrize(
    "line", ["sepdash nothing", "sepdash runs --nothing", "sepdash enqueue denoise/smal",
             "sepdash enqueue denoise/small --set optimizer.rate=1", "sepdash sweep nothing"],
)  # fmt: skip
def test_the_check_of_command_lines_sees_a_wrong_one(line: str) -> None:
    assert problem_of(tuple(shlex.split(line)))


def test_generated_pages_are_fresh(generator: ModuleType) -> None:
    stale = [
        name
        for name, text in generator.pages().items()
        if not (path := ROOT / "docs" / name).is_file() or path.read_text() != text
    ]
    assert stale == [], "run: uv run python docs/generate.py"


def test_no_code_of_the_product_imports_the_docs() -> None:
    importing = [
        str(path)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"^\s*(from|import) (docs|examples|tests)\b", path.read_text(), re.MULTILINE)
    ]
    assert importing == []


def messages_of_code() -> set[str]:
    """Every text of the code, with the sign for a value where one is put in."""
    texts = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.add(node.value)
                elif isinstance(node, ast.JoinedStr):
                    parts = [p.value if isinstance(p, ast.Constant) else "…" for p in node.values]
                    texts.add("".join(map(str, parts)))
    return texts


def test_quoted_messages_exist() -> None:
    texts = messages_of_code()
    quoted = [body.strip() for body in blocks(ROOT / "docs" / "troubleshooting.md", "text")]
    assert len(quoted) > 15
    missing = {}
    for message in quoted:
        wanted = message.removesuffix("…").strip()
        if not any(wanted in text for text in texts):
            missing[message] = difflib.get_close_matches(message, texts, n=1, cutoff=0.3)
    assert missing == {}, (
        "messages of troubleshooting.md that the code no longer has, and the nearest"
    )


def test_settings_that_pages_name_exist() -> None:
    keys = {item.key for item in list_settings()}
    sections = "|".join(sorted({key.partition(".")[0] for key in keys if "." in key}))
    named = {
        (page.name, match)
        for page in pages()
        for match in re.findall(rf"\b(?:{sections})\.[a-z][a-z0-9_]*", in_code(page))
        if not match.endswith((".py", ".toml", ".txt", ".jsonl", ".safetensors"))
    }
    assert len(named) > 50
    assert sorted((page, key) for page, key in named if key not in keys) == []


def in_code(page: Path) -> str:
    """What a page sets as code within its sentences and tables."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return "\n".join(re.findall(r"`([^`]+)`", text))


def test_links_between_readme_and_docs_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text())
    assert len(targets) > 10
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (ROOT / target).is_file()] == []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def test_site_builds_and_holds_every_page(site: Path) -> None:
    built = {path.relative_to(site).with_suffix("") for path in site.rglob("*.html")}
    sources = {p.relative_to(ROOT / "docs").with_suffix("") for p in (ROOT / "docs").rglob("*.md")}
    assert sources <= built
    assert not list(site.rglob("*.py"))


def test_reference_pages_show_their_signs(site: Path) -> None:
    settings = html.unescape((site / "reference" / "settings.html").read_text())
    assert "<td>>= 4000, <= 192000 Hz</td>" in settings
    assert "clean_*/<track>.wav" in settings
    commands = html.unescape((site / "reference" / "commands.html").read_text())
    assert "<code>--schema [preset|experiment]</code>" in commands
    assert "\\" not in re.sub(r"<script.*?</script>", "", settings + commands, flags=re.DOTALL)


def test_site_loads_nothing_from_other_hosts(site: Path) -> None:
    tags = r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?((?:https?:)?//[^\"'\s>]+)"
    # A canonical address names this page; every other link element is loaded.
    sheets = r"<link\b(?![^>]*canonical)[^>]*\bhref=[\"']?((?:https?:)?//[^\"'\s>]+)"
    styles = r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')\s]+)"
    loaded = []
    for path in [*site.rglob("*.html"), *site.rglob("*.css")]:
        text = path.read_text()
        patterns = [tags, sheets, styles] if path.suffix == ".html" else [styles]
        loaded += [(path.name, url) for pattern in patterns for url in re.findall(pattern, text)]
        # The script of the theme would fetch a renderer for these.
        assert 'class="mermaid"' not in text
    assert loaded == []


def test_the_page_on_metrics_states_every_margin() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    section = text.partition("## Margins\n")[2].partition("\n## ")[0]
    stated = {
        name: margin.strip()
        for names, margin in re.findall(r"^\| (`.*?) \| (\d.*?) \|$", section, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }
    expected = {}
    for metric in BUILT_IN:
        if metric.relative_margin:
            expected[metric.name] = (
                f"{100 * metric.relative_margin:g} % of the value of the reference"
            )
        elif metric.margin:
            unit = "% absolute" if metric.is_rate else metric.unit
            expected[metric.name] = f"{metric.margin * metric.scale:g} {unit}".strip()
    assert stated == expected
