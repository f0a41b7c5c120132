"""Errors of the run store, with messages for users."""

from __future__ import annotations


class StoreError(ValueError):
    """The store can't fulfil a request: unreadable, too new, full, or an invalid request."""


class StoreUnavailable(StoreError):
    """The store can't be used at the moment: locked for long, or the disk is full. A run does not end by it."""


class UnknownRun(StoreError):
    """No run has this id or name."""


class StateError(StoreError):
    """The state of the run does not allow the request."""
