"""Waiting for what another thread, process or screen does, with a deadline instead of a guess."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any


def until(condition: Callable[[], object], what: str, *, within_s: float = 180.0) -> None:
    """Wait until a condition holds; fail after a deadline."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"still not so after {within_s} s: {what}"
        time.sleep(0.02)


async def until_shown(
    pilot: Any, condition: Callable[[], object], *, within_s: float = 15.0
) -> None:
    """Wait until a condition holds on an app, which goes on meanwhile; fail after a deadline."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"still not so after {within_s} s"
        await pilot.pause()
        await asyncio.sleep(0.01)
