"""Settings that refer to another run or to a checkpoint folder: how they are written and collected.

`NAME` or an id is the best checkpoint of that run, `NAME@last` its newest one, `NAME@<metric>` the one
that was best by a metric. What has a slash in it, or begins with `.` or `~`, is a folder. Knows no
store and reads no file: what a reference leads to is found by whoever has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from engine.config.encoders import encoder_misfit, gives_encoder
from engine.config.fields import CURVE_REFERENCE, RUN_REFERENCE
from engine.config.loading import load_config
from engine.config.schema import RunConfig
from models.speech_configs import TunedEncoder
from models.user_paths import expanded

BEST, LAST, CURVE = "best", "last", "curve"


@dataclass(frozen=True, slots=True)
class Reference:
    """One setting that refers to a run or a folder.

    Attributes:
        key: dotted, of the setting.
        text: as it is written.
        only_at_start: a run that resumes from a checkpoint of its own does without it.
        of_curve: a validation curve of the run is meant, not a checkpoint.
        ending: of files that may take the place of a checkpoint; empty where none may.
    """

    key: str
    text: str
    only_at_start: bool
    of_curve: bool = False
    ending: str = ""

    @property
    def folder(self) -> Path | None:
        """The folder it names, absolute; None where it names a run."""
        if "/" in self.text or self.text.startswith((".", "~")):
            return expanded(self.text).absolute()
        return None

    @property
    def file(self) -> Path | None:
        """The file it names in place of a folder, absolute; it need not exist."""
        path = self.folder if self.ending else None
        return path if path and (path.is_file() or path.suffix == self.ending) else None

    @property
    def run(self) -> str:
        """Name or id of the run it names."""
        return self.text.partition("@")[0]

    @property
    def which(self) -> str:
        """What of the run is meant: best, last, or a metric for a checkpoint; curve."""
        return CURVE if self.of_curve else self.text.partition("@")[2] or BEST


def references_of(config: RunConfig) -> list[Reference]:
    """Return the references that a run sets, in schema order, plug-in sections included."""
    return list(_walk(config, ""))


def folder_named(config: RunConfig, key: str) -> Path | None:
    """Return the folder that the reference of a setting names; None where it names a run, or nothing."""
    return next((one.folder for one in references_of(config) if one.key == key), None)


def with_absolute_folders(config: RunConfig) -> RunConfig:
    """Return the config with every folder that it refers to written in full."""
    values = config.to_dict()
    changed = False
    for reference in references_of(config):
        # A curve has no folder: such a text is refused when the run is queued, as it was written.
        if reference.of_curve:
            continue
        if reference.folder is not None and str(reference.folder) != reference.text:
            _put(values, reference.key, value=str(reference.folder))
            changed = True
    return load_config(values) if changed else config


def mistake(reference: Reference) -> str:
    """Return the problem in the syntax of a reference; empty if valid."""
    if reference.of_curve and (reference.folder is not None or "@" in reference.text):
        return f"expected {CURVE_REFERENCE}, found {reference.text!r}"
    if reference.folder is None and (
        not reference.run or reference.text.endswith("@") or reference.text.count("@") > 1
    ):
        return f"expected {RUN_REFERENCE} (NAME, NAME@last, ./FOLDER), found {reference.text!r}"
    return ""


def why_weights_do_not_fit(config: RunConfig, trained: Mapping[str, Any]) -> str:
    """Return why weights trained with another config can't fit the model of this config.

    Args:
        config: the run that starts from them.
        trained: plain values of the config they were trained with.

    Returns:
        What differs; empty where that can't be known from configs.
    """
    if not config.init_strict:
        return ""
    encoder = _pre_trained(trained)
    if encoder is not None and isinstance(config.model, TunedEncoder):
        return encoder_misfit(config, encoder)
    kind = _kind(trained, "model")
    if kind and kind != config.model.kind:
        return f"a model of kind {kind!r}, but this run has model.kind = {config.model.kind!r}"
    loss = _kind(trained, "loss")
    if loss and (recipe := _recipe(trained)) and recipe != config.recipe:
        return f"a model for {recipe}, but this run trains {config.recipe}"
    if encoder is not None and (why := encoder_misfit(config, encoder)):
        return why
    tokens = _tokens(trained)
    if tokens == "bpe" != getattr(config.data, "tokens", tokens):
        ours = getattr(config.data, "tokens", "")
        return (
            f"a voice with data.tokens = {tokens!r}, but this run has {ours!r}, which reads texts otherwise (set "
            f"data.tokens = {tokens})"
        )
    if why := _other_sizes(config, trained):
        return why
    own, theirs = getattr(config.loss, "clusters", None), _clusters(trained)
    if own is not None and theirs is not None and own != theirs:
        return f"a model for {theirs} clusters, but this run has loss.clusters = {own}"
    return ""


def _other_sizes(config: RunConfig, trained: Mapping[str, Any]) -> str:
    """Name the sizes of a model by which weights of another one don't fit, as far as it declares them."""
    model, theirs = config.model, trained.get("model")
    if not isinstance(theirs, Mapping):
        return ""
    names = [
        name
        for name in getattr(type(model), "sizes", ())
        if isinstance(theirs.get(name), int) and theirs[name] != getattr(model, name)
    ]
    if not names:
        return ""
    wanted = ", ".join(f"model.{name} = {theirs[name]}" for name in names)
    own = ", ".join(str(getattr(model, name)) for name in names)
    return f"a model with {wanted}, but this run has {own}: set these to the sizes of the weights"


def _clusters(trained: Mapping[str, Any]) -> int | None:
    loss = trained.get("loss")
    clusters = loss.get("clusters") if isinstance(loss, Mapping) else None
    return clusters if isinstance(clusters, int) else None


def _tokens(trained: Mapping[str, Any]) -> str:
    data = trained.get("data")
    tokens = data.get("tokens") if isinstance(data, Mapping) else None
    return tokens if isinstance(tokens, str) else ""


def _walk(section: BaseModel, prefix: str) -> Iterator[Reference]:
    for name, field in type(section).model_fields.items():
        value, key = getattr(section, name), f"{prefix}{name}"
        extra = field.json_schema_extra
        if isinstance(value, BaseModel):
            yield from _walk(value, f"{key}.")
        elif isinstance(extra, dict) and extra.get("refers_to") == "run" and value is not None:
            yield Reference(
                key,
                str(value),
                only_at_start=bool(extra.get("only_at_start")),
                of_curve=extra.get("takes") == CURVE,
                ending=str(extra.get("file", "")),
            )


def _put(values: dict[str, Any], key: str, *, value: Any) -> None:
    *parents, name = key.split(".")
    for parent in parents:
        values = values[parent]
    values[name] = value


def _kind(values: Mapping[str, Any], section: str) -> str:
    below = values.get(section)
    kind = below.get("kind") if isinstance(below, Mapping) else None
    return kind if isinstance(kind, str) else ""


def _recipe(values: Mapping[str, Any]) -> str:
    config = _config(values)
    return "" if config is None else config.recipe


def _pre_trained(values: Mapping[str, Any]) -> RunConfig | None:
    """Return the config of a self-supervised run whose encoder can be taken; None if it is none."""
    config = _config(values) if _kind(values, "loss") else None
    return config if config is not None and gives_encoder(config.model) else None


def _config(values: Mapping[str, Any]) -> RunConfig | None:
    try:
        return load_config(values)
    except ValueError:
        # Of a package that is not installed, or an older program: nobody knows.
        return None
