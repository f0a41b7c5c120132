"""Which recipes there are: the built-in ones and those of installed packages. Free of torch.

A package adds one by the entry point group `sepdash.recipes`, whose value names a `RecipeSpec`:

    [project.entry-points."sepdash.recipes"]
    toy = "my_package.spec:TOY"

The name of the entry point is that of the recipe, which losses name in `recipe`, data and models in
`recipes`. Queueing a run needs to know that its recipe exists and how its runs are listed; only
training opens it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint
from typing import Any

from engine.config.errors import ConfigError, Problem
from engine.metrics.registry import BUILT_IN as METRICS
from engine.metrics.registry import LOSS, Metric, headline
from models.entry_points import Plugins, check_target, find_plugins, load_target

GROUP = "sepdash.recipes"


@dataclass(frozen=True, slots=True)
class RecipeSpec:
    """A recipe as everything but the trainer sees it.

    Attributes:
        name: as losses, data and models name it.
        title: what it does, in a few words.
        opens: where the recipe is, as `"package.module:name"`; called with the config of a run and
            `opening` (`engine.recipes.base.Opening`), it returns an `engine.recipes.base.Recipe`. Its
            module may import torch: it is imported when a run is trained.
        metrics: what its evaluations and updates measure beside the built-in metrics.
        headline: name of the metric that its runs are listed by, if no setting asks for another.
        large_update: items and audio seconds of an update that published results exceed, in one or the
            other; None: no size is recommended.
        transcribes: `"package.module:name"`, called with (config, manifest of a checkpoint, `device`); it
            returns an `engine.recipes.speech.transcriber.Transcriber`. Empty for what is no recogniser.
        gives_features: whether its networks are `models.self_supervised.features.GivesLayerFeatures`, so
            that its runs can be probed, and its evaluations measure `data.probe`, as those of a
            `PretrainingRecipe` do; None: not said.
    """

    name: str
    title: str
    opens: str
    metrics: tuple[Metric, ...] = ()
    headline: str = LOSS
    large_update: tuple[int, float] | None = None
    transcribes: str = ""
    gives_features: bool | None = None

    def listed_by(self, config: Any) -> str:
        """Return the metric that a run with a config is listed by: some need a setting (`Metric.needs`)."""
        built_in = any(self is spec for spec in BUILT_IN)
        return headline(self.name, config) if built_in else self.headline

    def open(self, config: Any, *, opening: Any) -> Any:
        """Import the recipe and open it for a config."""
        return load_target(self.opens)(config, opening=opening)


BUILT_IN = (
    RecipeSpec(
        name="separation",
        title="separation, denoising and bandwidth extension of audio",
        opens="engine.recipes.separation.recipe:open_separation",
        headline=headline("separation"),
        gives_features=False,
    ),
    RecipeSpec(
        name="transducer",
        title="speech recognition by transducers",
        opens="engine.recipes.transducer.recipe:open_transducer",
        headline=headline("transducer"),
        gives_features=False,
        # CAIMAN-ASR 1.14, on batch sizes: more than 1024 utterances or 5 hours for good WER.
        large_update=(1024, 5 * 3600.0),
        transcribes="engine.recipes.transducer.transcriber:open_transcriber",
    ),
    RecipeSpec(
        name="ctc",
        title="speech recognition by CTC",
        opens="engine.recipes.ctc.recipe:open_ctc",
        headline=headline("ctc"),
        gives_features=False,
        transcribes="engine.recipes.ctc.transcriber:open_transcriber",
    ),
    RecipeSpec(
        name="data2vec2",
        title="self-supervised pre-training by data2vec 2.0",
        opens="engine.recipes.self_supervised.data2vec2:open_data2vec2",
        headline=headline("data2vec2"),
        gives_features=True,
    ),
    RecipeSpec(
        name="wav2vec2",
        title="self-supervised pre-training by wav2vec 2.0",
        opens="engine.recipes.self_supervised.wav2vec2:open_wav2vec2",
        headline=headline("wav2vec2"),
        gives_features=True,
        # BASE in Baevski et al., 2020: 1.6 hours; of LibriSpeech, whose mean is 12.3 s.
        large_update=(450, 1.6 * 3600.0),
    ),
    RecipeSpec(
        name="hubert",
        title="self-supervised pre-training by HuBERT",
        opens="engine.recipes.self_supervised.hubert:open_hubert",
        headline=headline("hubert"),
        gives_features=True,
    ),
    RecipeSpec(
        name="codec",
        title="discrete codecs of mel spectrograms",
        opens="engine.recipes.codec.recipe:open_codec",
        headline=headline("codec"),
        gives_features=False,
    ),
    RecipeSpec(
        name="voice",
        title="voices: text to speech by a language model of text and mel codes",
        opens="engine.recipes.voice.recipe:open_voice",
        headline=headline("voice"),
        gives_features=False,
    ),
)


def accept_recipe(point: EntryPoint, value: object) -> RecipeSpec:
    """Return the spec that an entry point names.

    Raises:
        TypeError: when it breaks a rule.
    """
    if not isinstance(value, RecipeSpec):
        raise TypeError(f"{point.value} is not an {RecipeSpec.__module__}.RecipeSpec")
    if value.name != point.name:
        raise TypeError(
            f"{point.value} is named {value.name!r}, but its entry point is named {point.name!r}"
        )
    check_target(value.opens, f"{point.value}: opens")
    built_in = {metric.name for metric in METRICS}
    for metric in value.metrics:
        if not isinstance(metric, Metric):
            raise TypeError(f"{point.value}: metrics must be {Metric.__module__}.Metric")
        if metric.name in built_in:
            raise TypeError(
                f"{point.value}: the metric {metric.name!r} is built in; leave it out of metrics if yours "
                "means the same, else give yours another name"
            )
    if value.headline not in {*built_in, *(metric.name for metric in value.metrics)}:
        raise TypeError(f"{point.value}: headline {value.headline!r} is not one of its metrics")
    return value


@cache
def installed_recipes() -> Plugins[RecipeSpec]:
    """Return the recipes of installed packages, searched once, on first use."""
    return find_plugins(GROUP, accept_recipe, taken=[spec.name for spec in BUILT_IN])


def spec_of(name: str) -> RecipeSpec:
    """Return the recipe of a name.

    Raises:
        ConfigError: when no installed package has it.
    """
    plugins = installed_recipes()
    recipes = {**{spec.name: spec for spec in BUILT_IN}, **plugins.parts}
    spec = recipes.get(name)
    if spec is None:
        message = (
            f"trains {name}, but no recipe has that name{plugins.why_missing(name)}; expected one of "
            f"{', '.join(recipes)}: install the package that provides it, or choose another loss"
        )
        raise ConfigError([Problem("loss.kind", message)])
    return spec
