"""What can go wrong with the run store, worded for the person who met it."""

from __future__ import annotations


class StoreError(ValueError):
    """The store can't do what was asked: unreadable, too new, full, or the request makes no sense."""


class UnknownRun(StoreError):
    """No run has this id or name."""


class StateError(StoreError):
    """The run is in a state that the request does not fit."""
