"""How long a run is, as its settings are edited: updates, items, hours of audio, epochs and time.

The data are read on a thread, a moment after the last change; never while a path is being typed.
"""

from __future__ import annotations

from functools import partial

from textual import work
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Static

from engine.config.counters import EpochsUnknown, UpdateSize
from engine.config.schema import RunConfig
from engine.training.run_length import run_length
from jobs.home import Home
from tui.live.actions import Failed, attempt
from tui.reports.formats import clean

_PAUSE_S = 0.6


class RunLengthLine(Static):
    """One line about the length of a run; posts `Measured` when the size of its updates is known."""

    class Measured(Message):
        """What an update adds to the counters; None: the data can't be read."""

        def __init__(self, size: UpdateSize | None) -> None:
            super().__init__()
            self.size = size

    def __init__(self, home: Home, *, id: str) -> None:
        super().__init__(markup=False, id=id)
        self._home = home
        self._sizes: dict[str, UpdateSize | None] = {}
        self._timer: Timer | None = None
        self._config: RunConfig | None = None

    def show(self, config: RunConfig | None, *, typing_path: bool = False) -> None:
        """Show the length of a config, at once as far as it is known without reading the data."""
        if self._timer is not None:
            self._timer.stop()
        if config == self._config and config is not None and _key(config) in self._sizes:
            return
        self._config = config
        if config is None:
            self.update("")
            return
        key = _key(config)
        if key in self._sizes:
            self._take(config, key, size=self._sizes[key], time="")
        else:
            self.update(_text(config, config.update_size, time=""))
        if not typing_path:
            self._timer = self.set_timer(_PAUSE_S, partial(self._read, config, key))

    @work(thread=True, exclusive=True)
    def _read(self, config: RunConfig, key: str) -> None:
        from engine.data.update_size import mean_update_size
        from tui.reports.run_time import time_text

        def measured() -> tuple[UpdateSize, str]:
            known = self._sizes.get(key)
            size = mean_update_size(config, epochs=True) if known is None else known
            return size, time_text(self._home, config, size=size)

        found = attempt(self._home, measured)
        size, time = (None, "") if isinstance(found, Failed) else found
        self.app.call_from_thread(self._take, config, key, size=size, time=time)

    def _take(self, config: RunConfig, key: str, *, size: UpdateSize | None, time: str) -> None:
        self._sizes[key] = size
        if self.is_mounted and config == self._config:
            self.update(_text(config, size or config.update_size, time=time))
            self.post_message(self.Measured(size))


def _key(config: RunConfig) -> str:
    """Return what the size of an update depends on."""
    parts = config.model_dump_json(include={"data", "batch", "model"})
    return f"{config.precision.devices} {parts}"


def _text(config: RunConfig, size: UpdateSize, *, time: str) -> str:
    try:
        length = run_length(config, size).text
    except EpochsUnknown:
        length = f"{config.schedule.length}; updates are known once the training data can be read"
    known = f"; {time}" if time.startswith("about") else ""
    return clean(f"length: {length}{known}")
