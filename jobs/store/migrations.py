"""The migrations of the run store, in order, each recorded in its own transaction."""

from __future__ import annotations

import sqlite3

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from jobs.store.schema import (
    EPOCHS,
    HEADLINE,
    INITIAL,
    ITEM_RESULTS,
    ITEMS_AND_CLIPS,
    NEEDS,
    SCHEMA_VERSION,
    TEXTS,
    UNREAD,
)

migrations = Migrations("sepdash")


@migrations()
def m001_initial(db: Database) -> None:
    """Create every table."""
    for statement in INITIAL:
        db.execute(statement)
    db.execute("PRAGMA user_version = 1")


@migrations()
def m002_item_results(db: Database) -> None:
    """Add per-item results of evaluations."""
    for statement in ITEM_RESULTS:
        db.execute(statement)
    db.execute("PRAGMA user_version = 2")


@migrations()
def m003_headline(db: Database) -> None:
    """Add the headline metric of a run, and rename the columns of its best values."""
    for statement in HEADLINE:
        db.execute(statement)
    db.execute("PRAGMA user_version = 3")


@migrations()
def m004_items_and_clips(db: Database) -> None:
    """Call training examples items, and the audio files of evaluations clips."""
    for statement in ITEMS_AND_CLIPS:
        db.execute(statement)
    db.execute("PRAGMA user_version = 4")


@migrations()
def m005_epochs(db: Database) -> None:
    """Count epochs as the other clocks."""
    for statement in EPOCHS:
        db.execute(statement)
    db.execute("PRAGMA user_version = 5")


@migrations()
def m006_needs(db: Database) -> None:
    """Keep which runs need which others."""
    for statement in NEEDS:
        db.execute(statement)
    db.execute("PRAGMA user_version = 6")


@migrations()
def m007_unread(db: Database) -> None:
    """Drop what was never read: requests, and the heartbeats of workers."""
    for statement in UNREAD:
        db.execute(statement)
    db.execute("PRAGMA user_version = 7")


@migrations()
def m008_texts(db: Database) -> None:
    """Keep what is said in clips, and what was heard in them."""
    for statement in TEXTS:
        db.execute(statement)
    db.execute("PRAGMA user_version = 8")


def migrate(connection: sqlite3.Connection) -> None:
    """Apply missing migrations; a store at `SCHEMA_VERSION` is left unchanged."""
    db = Database(connection, execute_plugins=False)
    if db.execute("PRAGMA user_version").fetchone()[0] < SCHEMA_VERSION:
        migrations.apply(db)
