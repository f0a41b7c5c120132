"""The tables of the run store, as SQL, and the version number that guards them.

Standard library only: the reader checks the version without loading sqlite-utils.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from jobs.store.errors import StoreError, failed

# Incremented by each migration; stored in `PRAGMA user_version`.
SCHEMA_VERSION = 8

INITIAL = (
    """
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        preset TEXT NOT NULL DEFAULT '',
        state TEXT NOT NULL
            CHECK (state IN ('queued', 'running', 'finished', 'stopped', 'failed')),
        stopping INTEGER NOT NULL DEFAULT 0,
        position REAL NOT NULL,
        config TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        seed INTEGER NOT NULL,
        experiment TEXT NOT NULL DEFAULT '',
        variant TEXT NOT NULL DEFAULT '',
        parent INTEGER REFERENCES runs (id) ON DELETE SET NULL,
        created_at REAL NOT NULL,
        started_at REAL,
        ended_at REAL,
        heartbeat_at REAL,
        worker INTEGER,
        pid INTEGER,
        pid_token TEXT NOT NULL DEFAULT '',
        attempts INTEGER NOT NULL DEFAULT 0,
        updates INTEGER NOT NULL DEFAULT 0,
        total_updates INTEGER NOT NULL DEFAULT 0,
        micro_batches INTEGER NOT NULL DEFAULT 0,
        samples INTEGER NOT NULL DEFAULT 0,
        audio_seconds REAL NOT NULL DEFAULT 0,
        train_seconds REAL NOT NULL DEFAULT 0,
        speed REAL,
        best_si_sdr REAL,
        best_si_sdr_ema REAL,
        input_si_sdr REAL,
        message TEXT NOT NULL DEFAULT ''
    )
    """,
    "CREATE INDEX runs_by_state ON runs (state, position, id)",
    """
    CREATE TABLE series (
        id INTEGER PRIMARY KEY,
        run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        unit TEXT NOT NULL DEFAULT '',
        UNIQUE (run, name)
    )
    """,
    """
    CREATE TABLE points (
        run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        series INTEGER NOT NULL,
        step INTEGER NOT NULL,
        value REAL,
        PRIMARY KEY (run, series, step)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE rollups (
        run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        series INTEGER NOT NULL,
        level INTEGER NOT NULL,
        bucket INTEGER NOT NULL,
        low REAL,
        high REAL,
        total REAL NOT NULL,
        count INTEGER NOT NULL,
        last REAL,
        PRIMARY KEY (run, series, level, bucket)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        run INTEGER REFERENCES runs (id) ON DELETE CASCADE,
        time REAL NOT NULL,
        level TEXT NOT NULL CHECK (level IN ('info', 'warning', 'error')),
        kind TEXT NOT NULL,
        message TEXT NOT NULL,
        details TEXT NOT NULL DEFAULT '{}'
    )
    """,
    "CREATE INDEX events_by_run ON events (run, id)",
    """
    CREATE TABLE checkpoints (
        id INTEGER PRIMARY KEY,
        run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        kind TEXT NOT NULL,
        path TEXT NOT NULL,
        updates INTEGER NOT NULL,
        metrics TEXT NOT NULL DEFAULT '{}',
        size_bytes INTEGER NOT NULL,
        created_at REAL NOT NULL,
        UNIQUE (run, path)
    )
    """,
    """
    CREATE TABLE samples (
        id INTEGER PRIMARY KEY,
        run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        updates INTEGER NOT NULL,
        item TEXT NOT NULL,
        kind TEXT NOT NULL,
        path TEXT NOT NULL,
        spectrogram TEXT NOT NULL DEFAULT '',
        created_at REAL NOT NULL,
        UNIQUE (run, path)
    )
    """,
    """
    CREATE TABLE system (
        id INTEGER PRIMARY KEY,
        time REAL NOT NULL,
        run INTEGER REFERENCES runs (id) ON DELETE CASCADE,
        cpu_percent REAL NOT NULL,
        ram_bytes INTEGER NOT NULL,
        ram_total_bytes INTEGER NOT NULL,
        process_ram_bytes INTEGER,
        gpu_percent REAL,
        vram_bytes INTEGER,
        vram_total_bytes INTEGER,
        gpu_name TEXT
    )
    """,
    "CREATE INDEX system_by_time ON system (time)",
    "CREATE INDEX system_by_run ON system (run, time)",
    """
    CREATE TABLE workers (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        device TEXT NOT NULL UNIQUE,
        pid INTEGER NOT NULL,
        pid_token TEXT NOT NULL DEFAULT '',
        started_at REAL NOT NULL,
        heartbeat_at REAL NOT NULL,
        run INTEGER REFERENCES runs (id) ON DELETE SET NULL
    )
    """,
    """
    CREATE TABLE requests (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        kind TEXT NOT NULL,
        created_at REAL NOT NULL
    )
    """,
)

ITEM_RESULTS = (
    """
    CREATE TABLE evaluations (
        run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        updates INTEGER NOT NULL,
        train_seconds REAL NOT NULL,
        items_key TEXT NOT NULL,
        PRIMARY KEY (run, updates)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE item_results (
        id INTEGER PRIMARY KEY,
        run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        updates INTEGER NOT NULL,
        metric TEXT NOT NULL,
        results TEXT NOT NULL,
        UNIQUE (run, updates, metric)
    )
    """,
)

# Runs of every task have a best value of their headline metric.
HEADLINE = (
    "ALTER TABLE runs ADD COLUMN metric TEXT NOT NULL DEFAULT 'si_sdr'",
    "ALTER TABLE runs RENAME COLUMN best_si_sdr TO best",
    "ALTER TABLE runs RENAME COLUMN best_si_sdr_ema TO best_ema",
    "ALTER TABLE runs RENAME COLUMN input_si_sdr TO input_score",
)

# "samples" are values of an audio signal: training examples are items, and audio kept is clips.
ITEMS_AND_CLIPS = (
    "ALTER TABLE runs RENAME COLUMN samples TO items",
    "ALTER TABLE samples RENAME TO clips",
)

# Passes over the training items; 0 of runs that did not count them.
EPOCHS = ("ALTER TABLE runs ADD COLUMN epochs REAL NOT NULL DEFAULT 0",)

# What a run needs of other runs. No foreign key on `needed`: a removed run is still what was needed.
NEEDS = (
    """
    CREATE TABLE run_needs (
        run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        key TEXT NOT NULL,
        reference TEXT NOT NULL,
        needed INTEGER,
        needed_name TEXT NOT NULL DEFAULT '',
        which TEXT NOT NULL DEFAULT 'best',
        only_at_start INTEGER NOT NULL DEFAULT 0,
        checkpoint TEXT NOT NULL DEFAULT '',
        content TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (run, key)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX run_needs_by_needed ON run_needs (needed)",
)

# Never read: what a person asked of a run is in its state and events, and a worker lives if its process does.
UNREAD = (
    "DROP TABLE requests",
    """
    CREATE TABLE living_workers (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        device TEXT NOT NULL UNIQUE,
        pid INTEGER NOT NULL,
        pid_token TEXT NOT NULL DEFAULT '',
        started_at REAL NOT NULL,
        run INTEGER REFERENCES runs (id) ON DELETE SET NULL
    )
    """,
    """
    INSERT INTO living_workers (id, device, pid, pid_token, started_at, run)
    SELECT id, device, pid, pid_token, started_at, run FROM workers
    """,
    "DROP TABLE workers",
    "ALTER TABLE living_workers RENAME TO workers",
)

# What is said in a clip, and what a judge heard in it.
TEXTS = ("ALTER TABLE clips ADD COLUMN text TEXT",)


def check_version(connection: sqlite3.Connection, path: Path) -> int:
    """Return the schema version of an open store, 0 for an empty file.

    Raises:
        StoreError: when a newer version created the store, or the file is not a database.
    """
    try:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.DatabaseError as error:
        raise failed(path, error, doing="read") from None
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path}: was written by a newer sepdash (schema {version}, this version supports "
            f"up to {SCHEMA_VERSION}); upgrade sepdash, or choose another folder with --home"
        )
    return version
