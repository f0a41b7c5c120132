"""The trials of a search, kept by Optuna in a file of its own. The only module that knows Optuna.

Every method is one or more transactions of that file; whoever writes holds the lock of the search
(`jobs.searches.tending`). A trial is known by its number, a run by the variant of its trial.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from engine.metrics.registry import metric_of
from jobs.home import Home
from jobs.searches.definition import Definition
from jobs.store.errors import StoreError
from jobs.sweeps.search_space import BASELINE, Parameter
from models.private_files import ensure_private
from presets.merging import value_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    import optuna

TrialState = Literal["running", "finished", "pruned", "failed"]

# Another process may be writing.
_BUSY_S = 30.0
_VARIANT, _SETTINGS = "variant", "settings"


@dataclass(frozen=True, slots=True)
class Trial:
    """One proposal and what came of it.

    Attributes:
        settings: dotted key -> value, of what it varies; None while its proposal is not complete.
        reported: rung -> value of the metric there.
        notes: what this program noted about it.
    """

    number: int
    variant: str
    state: TrialState
    settings: Mapping[str, Any] | None
    value: float | None
    reported: Mapping[int, float]
    notes: Mapping[str, str]


class Trials:
    """The trials of a search; `path` is the storage of all searches of a home."""

    def __init__(self, path: Path, definition: Definition, *, rises: bool) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        ensure_private(path)
        self._path = path
        self._definition = definition
        self._rises = rises
        with self._worded():
            self._storage = _open_storage(path)
            self._study = optuna.create_study(
                storage=self._storage,
                study_name=definition.name,
                direction="maximize" if rises else "minimize",
                pruner=_pruner(definition),
                load_if_exists=True,
            )

    def close(self) -> None:
        """Close the file."""
        _close(self._storage)

    def list(self) -> list[Trial]:
        """List all trials in the order of their proposals."""
        with self._worded():
            return [
                _plain(trial)
                for trial in self._study.get_trials(deepcopy=False)
                if trial.state.name != "WAITING"
            ]

    def propose(self, variant: str, *, propose: Callable[[Suggest], Mapping[str, Any]]) -> Trial:
        """Begin a trial: `propose` asks for a value of each setting and returns all of them."""
        with self._worded():
            self._study.sampler = _sampler(self._definition, variant)
            if variant == BASELINE:
                self._study.enqueue_trial(_of_base(self._definition), skip_if_exists=True)
            trial = self._study.ask()
            trial.set_user_attr(_VARIANT, variant)
            return self._complete(trial, propose)

    def complete(
        self, number: int, variant: str, *, propose: Callable[[Suggest], Mapping[str, Any]]
    ) -> Trial:
        """Go on with a proposal whose process ended within it; values that it had are kept."""
        with self._worded():
            self._study.sampler = _sampler(self._definition, variant)
            trial = self._live(number)
            trial.set_user_attr(_VARIANT, variant)
            return self._complete(trial, propose)

    def note(self, number: int, key: str, *, text: str) -> None:
        """Note something about a trial that has not ended."""
        with self._worded():
            self._live(number).set_user_attr(key, text)

    def report(self, number: int, rung: int, *, value: float) -> bool:
        """Report the value at a rung, and return whether the pruner gives the trial up."""
        with self._worded():
            trial = self._live(number)
            trial.report(value, rung)
            return trial.should_prune()

    def end(self, number: int, state: TrialState, *, value: float | None = None) -> None:
        """End a trial; `value` is that of a finished one."""
        import optuna

        states = {
            "finished": optuna.trial.TrialState.COMPLETE,
            "pruned": optuna.trial.TrialState.PRUNED,
            "failed": optuna.trial.TrialState.FAIL,
        }
        with self._worded():
            self._study.tell(number, value, state=states[state])

    def add_finished(self, trial: Trial, *, value: float) -> None:
        """Add the result of a trial that was given up and finished all the same."""
        import optuna

        with self._worded():
            old = self._study.get_trials(deepcopy=False)[trial.number]
            self._study.add_trial(
                optuna.trial.create_trial(
                    value=value, params=old.params, distributions=old.distributions,
                    user_attrs=old.user_attrs, intermediate_values=old.intermediate_values,
                )
            )  # fmt: skip

    def importances(self) -> dict[str, float]:
        """Return how much each setting matters, in all 1; empty while that is unknown."""
        import warnings

        import optuna

        with self._worded(), warnings.catch_warnings():
            # That the method is new, and that few trials tell little.
            warnings.simplefilter("ignore")
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            try:
                return optuna.importance.get_param_importances(self._study, evaluator=evaluator)
            except (ValueError, RuntimeError):
                # Fewer than two finished trials, or no setting that all of them have.
                return {}

    def _live(self, number: int) -> optuna.Trial:
        import optuna

        # By its number: a list of all is read from the file each time.
        study = self._study
        found = study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
        return optuna.Trial(study, found)

    def _complete(
        self, trial: optuna.Trial, propose: Callable[[Suggest], Mapping[str, Any]]
    ) -> Trial:
        settings = propose(lambda parameter: _suggested(trial, parameter))
        trial.set_user_attr(_SETTINGS, json.dumps(settings))
        return _plain(self._study._storage.get_trial(trial._trial_id))

    @contextmanager
    def _worded(self) -> Iterator[None]:
        """Turn errors of the file into one that callers know."""
        import sqlalchemy.exc
        from optuna.exceptions import OptunaError

        try:
            yield
        except (OptunaError, RuntimeError, sqlalchemy.exc.SQLAlchemyError, sqlite3.Error) as error:
            first = str(error.__cause__ or error).partition("\n")[0]
            raise StoreError(f"{self._path}: can't be used: {first}") from error


Suggest = Callable[[Parameter], Any]


def open_trials(home: Home, definition: Definition) -> Trials:
    """Open the trials of a search."""
    return Trials(_path(home), definition, rises=metric_of(definition.metric).rises)


def forget(home: Home, name: str) -> None:
    """Delete the trials of a search, if there are any."""
    import optuna

    path = _path(home)
    if not path.exists():
        return
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = _open_storage(path)
    try:
        if name in optuna.get_all_study_names(storage):
            optuna.delete_study(study_name=name, storage=storage)
    finally:
        _close(storage)


def _path(home: Home) -> Path:
    return home.searches / "optuna.db"


def _close(storage: optuna.storages.RDBStorage) -> None:
    storage.remove_session()
    storage.engine.dispose()


def _open_storage(path: Path) -> optuna.storages.RDBStorage:
    import optuna

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=_BUSY_S, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    # A path can hold characters that have a meaning in an address; `creator` takes its place.
    return optuna.storages.RDBStorage("sqlite:///searches", engine_kwargs={"creator": connect})


def _sampler(definition: Definition, variant: str) -> optuna.samplers.BaseSampler:
    """Return the sampler of one proposal: a new process would otherwise propose the same again."""
    import warnings

    import optuna

    search = definition.search
    seed = (search.seed * 1_000_003 + int(variant[1:])) % 2**32
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        # Trials that still run count as bad ones, so that several workers look in several places.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


def _pruner(definition: Definition) -> optuna.pruners.BasePruner:
    import optuna

    search, count = definition.search, len(definition.rungs)
    first = max(1, math.ceil(search.prune_from * count))
    match search.pruner:
        case "median":
            return optuna.pruners.MedianPruner(
                n_startup_trials=search.startup, n_warmup_steps=first
            )
        case "hyperband":
            return optuna.pruners.HyperbandPruner(
                min_resource=first, max_resource=max(first, count)
            )
        case _:
            return optuna.pruners.NopPruner()


def _of_base(definition: Definition) -> dict[str, Any]:
    """Return the values of the base that a proposal could have, as Optuna writes them."""
    values: dict[str, Any] = {}
    for parameter in definition.space:
        own = value_at(definition.base, parameter.key)
        if parameter.is_active(definition.base) and parameter.contains(own):
            same = (json.dumps(item) for item in parameter.choices if item == own)
            values[parameter.key] = next(same, own)
    return values


def _suggested(trial: optuna.Trial, parameter: Parameter) -> Any:
    key = parameter.key
    if parameter.choices:
        # The file holds numbers, text and switches; lists are written as text.
        texts = {json.dumps(choice): choice for choice in parameter.choices}
        return texts[trial.suggest_categorical(key, list(texts))]
    if parameter.is_whole:
        step = int(parameter.step or 1)
        return trial.suggest_int(
            key, int(parameter.low), int(parameter.high), step=step, log=parameter.log
        )
    return trial.suggest_float(
        key, parameter.low, parameter.high, step=parameter.step, log=parameter.log
    )


def _plain(trial: optuna.trial.FrozenTrial) -> Trial:
    states: dict[str, TrialState] = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}
    notes = {key: str(text) for key, text in trial.user_attrs.items()}
    return Trial(
        trial.number,
        notes.get(_VARIANT, ""),
        state=states.get(trial.state.name, "running"),
        settings=json.loads(notes.pop(_SETTINGS)) if _SETTINGS in notes else None,
        value=trial.value if trial.state.name == "COMPLETE" else None,
        reported=dict(trial.intermediate_values),
        notes=notes,
    )
