"""Change the rules of `stop_when` of a run that is not running: they are no part of what it learns."""

from __future__ import annotations

import json
from collections.abc import Sequence

from engine.config.fields import shown
from engine.config.loading import load_config
from engine.config.overrides import config_with
from engine.config.stop_when import StopConfig, stop_metric
from jobs.home import Home
from jobs.needs import note_needs
from jobs.store.errors import StateError
from jobs.store.needs import delete_need
from jobs.store.writer import StoreWriter

_SECTION = "stop_when"
_REFERENCE = f"{_SECTION}.reference"


def change_rules(
    home: Home, store: StoreWriter, *, run_id: int, assignments: Sequence[str]
) -> bool:
    """Apply `key=value` to a run, inside a transaction; return whether anything changed.

    Raises:
        ConfigError: when an assignment is invalid, or its reference can't be had.
        StateError: when it is of another section.
    """
    if not assignments:
        return False
    keys = [text.partition("=")[0].strip() for text in assignments]
    other = [key for key in keys if not key.startswith(f"{_SECTION}.")]
    if other:
        raise StateError(
            f"run {run_id} can't be resumed with {', '.join(other)}: only settings of {_SECTION} can be "
            "changed; enqueue a new run for others"
        )
    with store.transaction() as connection:
        (text,) = connection.execute("SELECT config FROM runs WHERE id = ?", (run_id,)).fetchone()
        old = load_config(json.loads(text))
        config = config_with(old.to_dict(), assignments)
        if config == old:
            return False
        store.update_run(run_id, config=config.to_json(), fingerprint=config.fingerprint)
        names = [stop_metric(some) for some in (old, config)]
        if names[0] != names[1] or old.stop_when.reference != config.stop_when.reference:
            delete_need(connection, run_id, key=_REFERENCE)
            note_needs(home, connection, configs={run_id: config}, keys={_REFERENCE})
        changes = ", ".join(
            f"{_SECTION}.{name} = {shown(getattr(config.stop_when, name))}"
            for name in StopConfig.model_fields
            if getattr(config.stop_when, name) != getattr(old.stop_when, name)
        )
        store.add_event(run_id, "info", kind="replanned", message=f"continues with {changes}")
    return True
