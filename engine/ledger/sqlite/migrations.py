"""The ledger's tables, as scripts that migrate each version to the next.

Times are nanoseconds since 1970, UTC. Digests are SHA-256.
"""

_RUN = """
CREATE TABLE {name} (
    run             INTEGER PRIMARY KEY,
    name            TEXT    NOT NULL UNIQUE,  -- what people call it: 20261123-020000-3f9a
    identity        BLOB    NOT NULL,         -- digest of target, cohort, action, files, options
    endpoint        TEXT    NOT NULL,
    workspace       TEXT    NOT NULL,
    partner         TEXT    NOT NULL,
    cohort_id       TEXT    NOT NULL,
    cohort_name     TEXT    NOT NULL,
    cohort_description TEXT,
    action          TEXT    NOT NULL CHECK (action IN ({actions})),
    exports         TEXT    NOT NULL,         -- JSON: the exports as named on the command line
    reading         TEXT    NOT NULL,         -- JSON: the reading options
    sizes           TEXT    NOT NULL,         -- JSON: bytes of each file, null where unknown
    status          TEXT    NOT NULL,
    exit_status     INTEGER,
    reason          TEXT,
    source_complete INTEGER NOT NULL DEFAULT 0, -- 1 once all of the export is entered
    started_utc_ns  INTEGER NOT NULL,
    finished_utc_ns INTEGER
) STRICT;
"""

_TABLES = f"""
-- One execution of a push for one cohort, over all its restarts.
{_RUN.format(name="run", actions="'add', 'remove'")}
CREATE INDEX run_by_identity ON run (identity, run);
CREATE INDEX run_by_cohort ON run (partner, cohort_id, run);

-- One process that worked on a run, from its start to its end, or to its last attempt if it died.
CREATE TABLE sitting (
    run             INTEGER NOT NULL REFERENCES run,
    sitting         INTEGER NOT NULL,         -- from 1
    requests        INTEGER NOT NULL,         -- the ceiling it was given
    per_seconds     REAL    NOT NULL,
    payload_bytes   INTEGER NOT NULL,
    host            TEXT    NOT NULL,
    pid             INTEGER NOT NULL,
    started_utc_ns  INTEGER NOT NULL,
    ended_utc_ns    INTEGER,
    pace            TEXT,                     -- JSON: how the ceiling was kept; null if it died
    PRIMARY KEY (run, sitting)
) STRICT, WITHOUT ROWID;

-- A payload. A batch that was split is replaced by its parts, which name it as their parent.
CREATE TABLE batch (
    run             INTEGER NOT NULL REFERENCES run,
    batch           INTEGER NOT NULL,         -- from 1, in the order of registration
    parent          INTEGER,
    first_uid       INTEGER NOT NULL,         -- place of its first uid among all planned, from 0
    uid_count       INTEGER NOT NULL CHECK (uid_count > 0),
    blank           INTEGER NOT NULL,         -- blank rows of its span; 0 for parts
    invalid         INTEGER NOT NULL,         -- invalid rows of its span; 0 for parts
    records_through INTEGER,                  -- records read up to its end, by the reader's count
    is_last         INTEGER NOT NULL,         -- 1 if the export ends with it
    payload_bytes   INTEGER NOT NULL,
    digest          BLOB,                     -- of its uids; null for parts
    state           TEXT    NOT NULL CHECK (state IN ('open', 'accepted', 'rejected', 'split')),
    may_have_been_applied INTEGER NOT NULL DEFAULT 0,
    isolated        INTEGER NOT NULL DEFAULT 0, -- 1 if it is part of a search for rejected uids
    reason          TEXT,
    PRIMARY KEY (run, batch)
) STRICT, WITHOUT ROWID;

-- A request, written before its first byte leaves. No outcome: the process died, or still waits.
CREATE TABLE attempt (
    id              INTEGER PRIMARY KEY,      -- in the order of the intents
    run             INTEGER NOT NULL,
    batch           INTEGER NOT NULL,
    attempt         INTEGER NOT NULL,         -- from 1
    sitting         INTEGER NOT NULL,
    intended_utc_ns INTEGER NOT NULL,
    sent_boot_id    TEXT,                     -- null until the outcome is known, or never sent
    sent_boot_ns    INTEGER,
    sent_utc_ns     INTEGER,
    ended_utc_ns    INTEGER,
    outcome         TEXT,
    http_status     INTEGER,
    request_id      TEXT,
    reason          TEXT,
    UNIQUE (run, batch, attempt),
    FOREIGN KEY (run, batch) REFERENCES batch
) STRICT;

-- Consecutive rows of an export that plan no uid, for one reason; blank rows too. All excluded rows
-- of a batch and file are one entry.
CREATE TABLE skipped (
    run             INTEGER NOT NULL,
    batch           INTEGER NOT NULL,
    file            TEXT    NOT NULL,
    record          INTEGER NOT NULL,         -- of the first, from 1
    count           INTEGER NOT NULL,
    reason          TEXT    NOT NULL,
    PRIMARY KEY (run, batch, file, record)
) STRICT, WITHOUT ROWID;

-- A uid that the API refused, or that fits into no payload.
CREATE TABLE rejected (
    run             INTEGER NOT NULL,
    batch           INTEGER NOT NULL,
    file            TEXT    NOT NULL,
    record          INTEGER NOT NULL,
    uid             TEXT    NOT NULL,
    reason          TEXT    NOT NULL,
    request_id      TEXT,
    PRIMARY KEY (run, batch)
) STRICT, WITHOUT ROWID;
"""

_MIRRORS = f"""
-- A run may be a mirror now: one plan of removes and adds, so that each batch says what it does.
{_RUN.format(name="run_anew", actions="'add', 'remove', 'mirror'")}
INSERT INTO run_anew SELECT * FROM run;
DROP TABLE run;
ALTER TABLE run_anew RENAME TO run;
CREATE INDEX run_by_identity ON run (identity, run);
CREATE INDEX run_by_cohort ON run (partner, cohort_id, run);

ALTER TABLE batch ADD COLUMN leg TEXT NOT NULL DEFAULT 'add'
    CHECK (leg IN ('add', 'remove', 'resend'));  -- first_uid counts the uids of this leg
UPDATE batch SET leg = (SELECT action FROM run WHERE run.run = batch.run);

ALTER TABLE attempt ADD COLUMN retry_after REAL;  -- seconds that a 429 has asked to wait

-- Rows of an export that were read before any batch was cut: all of a mirror's, and those of an
-- export that holds no uid. The skipped ones among them stand under batch 0.
CREATE TABLE reading (
    run             INTEGER PRIMARY KEY REFERENCES run,
    records         INTEGER NOT NULL,         -- by the reader's count
    blank           INTEGER NOT NULL,
    invalid         INTEGER NOT NULL
) STRICT;

-- What a mirror plans; its uids stand in two files in the folder plans/NAME beside the ledger.
CREATE TABLE plan (
    run             INTEGER PRIMARY KEY REFERENCES run,
    is_shadow       INTEGER NOT NULL,         -- 1 if nothing of it is ever sent
    generation      INTEGER,                  -- of the snapshot that it goes on from; null: none
    first_action    TEXT    NOT NULL CHECK (first_action IN ('add', 'remove')),
    duplicate       INTEGER NOT NULL,         -- rows whose uid stood in an earlier row
    unchanged       INTEGER NOT NULL,
    add_plain       INTEGER NOT NULL,
    add_suspect     INTEGER NOT NULL,         -- rejected before, tried again, behind the plain
    add_held        INTEGER NOT NULL,         -- wait for a recent change to settle; the last
    add_known       INTEGER NOT NULL,         -- rejected lately: not sent
    remove_plain    INTEGER NOT NULL,
    remove_suspect  INTEGER NOT NULL,
    remove_held     INTEGER NOT NULL,
    remove_known    INTEGER NOT NULL,
    resend          INTEGER NOT NULL,         -- members that are in, added once more
    resent_through  TEXT,                     -- JSON: run and uid (hex) of the last; null: the end
    exported_utc_ns INTEGER,                  -- when the export was last written; null: unknown
    profile         TEXT    NOT NULL,         -- JSON: what the uids look like
    verdicts        TEXT    NOT NULL,         -- JSON: what each guard said
    allowances      TEXT    NOT NULL,         -- JSON: guards that were lifted, by whom and why
    forecast        TEXT    NOT NULL,         -- JSON: what it comes to
    is_closed       INTEGER NOT NULL DEFAULT 0, -- 1 once nothing more of it is sent
    digests         TEXT                      -- JSON: hex, of its legs' files; null: sent at once
) STRICT;

-- Runs whose outcomes the cohort's snapshot follows: mirrors, and pushes that are recorded.
CREATE TABLE followed (
    run             INTEGER PRIMARY KEY REFERENCES run,
    attempt         INTEGER NOT NULL DEFAULT 0 -- the last that the snapshot knows of
) STRICT;

-- Requests that carry no uid, such as those of `cohortsync check --live`: the ceiling counts them.
CREATE TABLE probe (
    id              INTEGER PRIMARY KEY,
    sent_boot_id    TEXT,                     -- null until it has ended
    sent_boot_ns    INTEGER,
    sent_utc_ns     INTEGER
) STRICT;

-- What the API acknowledged: a file in the folder snapshots beside the ledger. The last counts.
CREATE TABLE generation (
    partner         TEXT    NOT NULL,
    cohort_id       TEXT    NOT NULL,
    is_shadow       INTEGER NOT NULL,         -- 1 if nothing of it was ever sent
    generation      INTEGER NOT NULL,         -- from 1
    run             INTEGER REFERENCES run,   -- the run that led to it; null: it was adopted
    file            TEXT,                     -- its name; null once it has been dropped
    digest          BLOB    NOT NULL,         -- of the file
    members         INTEGER NOT NULL,
    unknown         INTEGER NOT NULL,
    out             INTEGER NOT NULL,         -- removed so lately that it may not have settled
    origin          TEXT    NOT NULL,         -- mirror, or the command that made it
    made_boot_id    TEXT    NOT NULL,
    made_boot_ns    INTEGER NOT NULL,
    made_utc_ns     INTEGER NOT NULL,
    last_attempt    INTEGER NOT NULL,         -- the last that it knows of; 0 in the shadow
    PRIMARY KEY (partner, cohort_id, is_shadow, generation)
) STRICT, WITHOUT ROWID;

-- The snapshot that is being made: its file may be on the disk before its generation is named.
CREATE TABLE making (
    partner         TEXT    NOT NULL,
    cohort_id       TEXT    NOT NULL,
    is_shadow       INTEGER NOT NULL,
    generation      INTEGER NOT NULL,
    PRIMARY KEY (partner, cohort_id, is_shadow)
) STRICT, WITHOUT ROWID;
"""  # noqa: S608 - our own words

_VERSION_3 = """
-- Guards that were lifted to take a snapshot from a list, by whom and why: JSON. Those of a mirror
-- stand in its plan.
ALTER TABLE generation ADD COLUMN lifted TEXT NOT NULL DEFAULT '[]';
-- A file that a run read, as it was when it was opened.
CREATE TABLE file (
    run             INTEGER NOT NULL REFERENCES run,
    name            TEXT    NOT NULL,
    place           INTEGER NOT NULL,         -- from 0, in the order in which they are read
    bytes           INTEGER,                  -- null where unknown
    written_utc_ns  INTEGER,                  -- null where unknown
    uids            INTEGER,                  -- planned (push) or read (mirror); null: unknown
    PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;

-- Guards that were lifted for a push, by whom and why: JSON. Those of a mirror stand in its plan.
ALTER TABLE run ADD COLUMN lifted TEXT NOT NULL DEFAULT '[]';
-- What the batches and attempts of a closed run add up to, so that no reader counts them again.
CREATE TABLE run_totals (
    run             INTEGER PRIMARY KEY REFERENCES run,
    totals          TEXT    NOT NULL,         -- JSON
    checksum        INTEGER NOT NULL          -- CRC-32 of that
) STRICT;

-- When the whole file was last checked for damage, in its only row.
CREATE TABLE integrity_check (
    id              INTEGER PRIMARY KEY CHECK (id = 1),
    checked_utc_ns  INTEGER NOT NULL
) STRICT;

-- So that a query visits the rows that it asks for, however many others there are.
CREATE INDEX attempt_by_run ON attempt (run, id);
CREATE INDEX attempt_without_outcome ON attempt (run, batch) WHERE outcome IS NULL;
CREATE INDEX rejected_by_uid ON rejected (uid, run);
"""

_VERSION_4 = """
-- No table changes. From this version on several processes work on a ledger at once, each on other
-- cohorts, which it locks. The version keeps out programs that know nothing of those locks.
"""

_VERSION_5 = """
-- Hours in which another ceiling than `requests` held: JSON; empty if there were none.
ALTER TABLE sitting ADD COLUMN hours TEXT NOT NULL DEFAULT '';

-- A cohort in one sync, also if it began no run; the columns are the fields of `SyncRecord`.
CREATE TABLE synced_cohort (
    sync            TEXT    NOT NULL,         -- its name, which all its cohorts share
    cohort          TEXT    NOT NULL,         -- the cohort's key in the configuration
    partner         TEXT    NOT NULL,
    cohort_id       TEXT    NOT NULL,
    started_utc_ns  INTEGER NOT NULL,         -- when the sync began
    date            TEXT    NOT NULL,         -- that the names of its files mean
    finished_utc_ns INTEGER,                  -- null until the cohort has ended
    status          TEXT,                     -- null as above
    exit_status     INTEGER,
    reason          TEXT,
    run             TEXT,                     -- its name; null if the cohort began no run
    members         INTEGER,                  -- of a mirrored cohort, afterwards
    UNIQUE (sync, cohort)
) STRICT;
CREATE INDEX synced_cohort_by_start ON synced_cohort (started_utc_ns);

-- A restore of this ledger from a backup: what was sent after the backup is not known here.
CREATE TABLE restored (
    id              INTEGER PRIMARY KEY,
    backup_utc_ns   INTEGER NOT NULL,
    restored_utc_ns INTEGER NOT NULL,
    run             INTEGER NOT NULL          -- the last run of the backup; 0 if it had none
) STRICT;

-- Runs that were deleted, and whose batches and attempts are still being deleted, part by part.
CREATE TABLE pruned (
    run             INTEGER PRIMARY KEY
) STRICT;

-- A problem of a cohort that a recipient of notifications was told of, and that lasts.
CREATE TABLE told_problem (
    partner         TEXT    NOT NULL,
    cohort          TEXT    NOT NULL,         -- its key in the configuration
    recipient       TEXT    NOT NULL,         -- the owner; empty: the recipients of everything
    problem         TEXT    NOT NULL,
    PRIMARY KEY (partner, cohort, recipient, problem)
) STRICT, WITHOUT ROWID;

-- The last run of a cohort after which its `after` command succeeded.
CREATE TABLE followed_up (
    partner         TEXT    NOT NULL,
    cohort          TEXT    NOT NULL,         -- its key in the configuration
    run             TEXT    NOT NULL,         -- its name
    PRIMARY KEY (partner, cohort)
) STRICT, WITHOUT ROWID;

-- What metrics count over all syncs; runs that are removed stay counted.
CREATE TABLE metric_count (
    name            TEXT    NOT NULL,
    labels          TEXT    NOT NULL,         -- JSON: the values of its labels
    value           REAL    NOT NULL,
    PRIMARY KEY (name, labels)
) STRICT, WITHOUT ROWID;
"""

MIGRATIONS: tuple[str, ...] = (_TABLES, _MIRRORS, _VERSION_3, _VERSION_4, _VERSION_5)
"""Scripts that migrate an empty file to the present version, in order."""

UID_COLUMNS = frozenset({("rejected", "uid"), ("plan", "forecast"), ("plan", "resent_through")})
"""Each column that holds uids, with its table; `plan.forecast` holds a few samples.

The index `rejected_by_uid` repeats the first.
"""
