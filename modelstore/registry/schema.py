"""The tables into which logs are folded. They live in SQLite, in the local index or in memory.

Whatever ends (a model, its place in a state) keeps its row, with the number of the event that ended it: so the tables
say what is and what was at every event, and hence at every time.
"""

from __future__ import annotations

STORE = ""
"""Stands for the store's own log where a domain's name stands otherwise; no domain has an empty name."""

VERSION = 3
"""Of the tables below. An index of another version is built anew."""

TABLES = """
CREATE TABLE logs (
    domain TEXT PRIMARY KEY, number INTEGER NOT NULL, digest TEXT NOT NULL, etag TEXT NOT NULL, time TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE events (
    domain TEXT, number INTEGER, time TEXT NOT NULL, kind TEXT NOT NULL,
    model INTEGER,  -- the upload event of the model that it is about
    raw BLOB NOT NULL, PRIMARY KEY (domain, number)
);
CREATE INDEX events_by_time ON events (domain, time, number);
CREATE INDEX events_by_model ON events (domain, model, number) WHERE model IS NOT NULL;
CREATE TABLE models (
    id INTEGER PRIMARY KEY, domain TEXT NOT NULL, number INTEGER NOT NULL, model_id TEXT NOT NULL,
    archive TEXT NOT NULL, parent INTEGER, created TEXT NOT NULL, user TEXT NOT NULL,
    library TEXT NOT NULL, type TEXT,
    deleted INTEGER NOT NULL DEFAULT 0,  -- the number of the event that deleted it
    deleted_at TEXT NOT NULL DEFAULT '', purged INTEGER NOT NULL DEFAULT 0, pinned INTEGER NOT NULL DEFAULT 0,
    UNIQUE (domain, number)
);
CREATE INDEX models_by_id ON models (domain, model_id);
CREATE UNIQUE INDEX live_by_id ON models (domain, model_id) WHERE deleted = 0;
CREATE INDEX live_by_number ON models (domain, number) WHERE deleted = 0;
CREATE TABLE lives (
    domain TEXT, model INTEGER,
    born INTEGER, died INTEGER,  -- numbers of events, the second NULL while it lives
    PRIMARY KEY (domain, model, born)
) WITHOUT ROWID;
CREATE TABLE states (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL, exclusive INTEGER NOT NULL DEFAULT 0,
    requires TEXT NOT NULL DEFAULT '[]',  -- JSON: the numbers of other states
    deleted INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE holds (
    domain TEXT, state INTEGER,
    since INTEGER,  -- the number of the event that set it
    model INTEGER NOT NULL, until INTEGER,  -- NULL while it is in the state
    back INTEGER NOT NULL DEFAULT 0,  -- set by a rollback
    PRIMARY KEY (domain, state, since)
) WITHOUT ROWID;
CREATE INDEX holds_of_model ON holds (domain, model) WHERE until IS NULL;
CREATE INDEX holds_of_state ON holds (domain, state, model) WHERE until IS NULL;
CREATE TABLE notes (
    domain TEXT, number INTEGER, model INTEGER, kind TEXT NOT NULL, answers INTEGER, answered INTEGER,
    PRIMARY KEY (domain, number)
) WITHOUT ROWID;
CREATE TABLE adopted (  -- what is known of the files that the ancestor wrote
    domain TEXT, key TEXT,
    etag TEXT NOT NULL,  -- empty: it was gone
    sha256 TEXT NOT NULL, model INTEGER,
    number INTEGER NOT NULL,  -- the last event that says so
    PRIMARY KEY (domain, key)
) WITHOUT ROWID;
CREATE TABLE condemned (domain TEXT, archive TEXT, PRIMARY KEY (domain, archive)) WITHOUT ROWID;
CREATE TABLE gone (domain TEXT PRIMARY KEY) WITHOUT ROWID;  -- domains that were deleted once, by the store's log
CREATE TABLE paths (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE);
CREATE TABLE facts (
    model INTEGER, path INTEGER, at INTEGER, value NOT NULL,  -- at: the place in a list, else 0
    PRIMARY KEY (model, path, at)
) WITHOUT ROWID;
CREATE INDEX facts_by_value ON facts (path, value, model);
"""

TEXTS = "CREATE VIRTUAL TABLE texts USING fts5 (text, domain UNINDEXED, model UNINDEXED, number UNINDEXED)"
"""What `text=` searches: each text with the row of its model and the number of its event. Some builds of SQLite come
without FTS5; all but this works there."""

OF_A_DOMAIN = ("logs", "events", "models", "lives", "holds", "notes", "adopted", "condemned", "texts")
"""Tables whose rows belong to one log."""
