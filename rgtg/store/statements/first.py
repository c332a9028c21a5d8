"""The first schema. It has shipped and stays as it is."""

STATEMENTS = """
CREATE TABLE meta (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL,
    key TEXT NOT NULL UNIQUE,
    value TEXT NOT NULL CHECK (json_valid(value))
) STRICT;;
CREATE TABLE raters (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('local', 'anonymous', 'oauth')),
    subject_hmac TEXT NOT NULL UNIQUE,
    weight REAL NOT NULL DEFAULT 1.0 CHECK (abs(weight) < 1e300),
    consent_at TEXT,
    banned_at TEXT
) STRICT;;
CREATE TABLE comparisons (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL,
    prompt TEXT NOT NULL,
    prompt_sha256 TEXT NOT NULL,
    rater_id TEXT REFERENCES raters (id),
    state TEXT NOT NULL CHECK (state IN ('open', 'closed', 'expired', 'abandoned')),
    pair_rule TEXT NOT NULL,
    blind INTEGER NOT NULL CHECK (blind IN (0, 1)),
    guideline_version TEXT NOT NULL DEFAULT '',
    token_hash TEXT,
    expires_at TEXT
) STRICT;;
CREATE INDEX comparisons_prompt ON comparisons (prompt_sha256);;
CREATE TABLE traces (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL,
    comparison_id TEXT NOT NULL REFERENCES comparisons (id),
    "column" TEXT NOT NULL CHECK ("column" IN ('A', 'B', 'C', 'D', 'E', 'F', 'G', 'H')),
    place INTEGER NOT NULL CHECK (place >= 0),
    run TEXT NOT NULL CHECK (json_valid(run)),
    response TEXT NOT NULL,
    steps TEXT NOT NULL CHECK (json_valid(steps)),
    stop_reason TEXT NOT NULL CHECK (stop_reason IN ('eos', 'max_new_tokens', 'stopped', 'error')),
    error TEXT NOT NULL DEFAULT '',
    parent_trace_id TEXT,
    branch_position INTEGER CHECK (branch_position >= 0),
    seconds REAL NOT NULL CHECK (abs(seconds) < 1e300),
    lm_forwards INTEGER NOT NULL CHECK (lm_forwards >= 0),
    reward_forwards INTEGER NOT NULL CHECK (reward_forwards >= 0),
    row_sha256 TEXT NOT NULL,
    CHECK ((parent_trace_id IS NULL) = (branch_position IS NULL)),
    UNIQUE (comparison_id, "column"),
    UNIQUE (id, comparison_id),
    FOREIGN KEY (parent_trace_id, comparison_id) REFERENCES traces (id, comparison_id) DEFERRABLE INITIALLY DEFERRED
) STRICT;;
CREATE TABLE votes (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL,
    comparison_id TEXT NOT NULL REFERENCES comparisons (id),
    rater_id TEXT NOT NULL REFERENCES raters (id),
    revision INTEGER NOT NULL CHECK (revision >= 1),
    verdict TEXT NOT NULL CHECK (verdict IN ('best', 'tie', 'all_bad', 'skip', 'withdrawn')),
    best_trace_id TEXT,
    seen_trace_ids TEXT NOT NULL CHECK (json_valid(seen_trace_ids)),
    strength INTEGER CHECK (strength BETWEEN 1 AND 3),
    reasons TEXT NOT NULL CHECK (json_valid(reasons)),
    comment TEXT NOT NULL DEFAULT '',
    guideline_version TEXT NOT NULL DEFAULT '',
    dwell_ms INTEGER CHECK (dwell_ms >= 0),
    row_sha256 TEXT NOT NULL,
    CHECK ((verdict = 'best') = (best_trace_id IS NOT NULL)),
    UNIQUE (comparison_id, rater_id, revision),
    FOREIGN KEY (best_trace_id, comparison_id) REFERENCES traces (id, comparison_id)
) STRICT;;
CREATE VIEW current_votes AS
    SELECT * FROM votes AS vote
    WHERE verdict <> 'withdrawn' AND revision = (
        SELECT max(revision) FROM votes AS any_vote
        WHERE any_vote.comparison_id = vote.comparison_id AND any_vote.rater_id = vote.rater_id
    );;
CREATE TABLE marks (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL,
    trace_id TEXT NOT NULL REFERENCES traces (id),
    rater_id TEXT NOT NULL REFERENCES raters (id),
    start INTEGER NOT NULL CHECK (start >= 0),
    "end" INTEGER NOT NULL CHECK ("end" > start),
    label TEXT NOT NULL CHECK (label IN ('good', 'bad', 'goes_wrong', 'withdrawn')),
    comment TEXT NOT NULL DEFAULT '',
    row_sha256 TEXT NOT NULL
) STRICT;;
CREATE INDEX marks_trace ON marks (trace_id);;
CREATE TABLE vote_flags (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL,
    vote_id TEXT NOT NULL REFERENCES votes (id),
    flag TEXT NOT NULL,
    detail TEXT NOT NULL DEFAULT ''
) STRICT;;
CREATE TABLE snapshots (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL,
    filter TEXT NOT NULL CHECK (json_valid(filter)),
    num_votes INTEGER NOT NULL CHECK (num_votes >= 0),
    last_vote_seq INTEGER NOT NULL CHECK (last_vote_seq >= 0),
    sha256 TEXT NOT NULL
) STRICT;;
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'cancelling', 'succeeded', 'failed', 'cancelled', 'interrupted')),
    device TEXT NOT NULL,
    snapshot_id TEXT REFERENCES snapshots (id),
    config TEXT NOT NULL CHECK (json_valid(config)),
    attempt INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    max_attempts INTEGER NOT NULL DEFAULT 1 CHECK (max_attempts >= 1),
    pid INTEGER,
    pid_created_at REAL CHECK (abs(pid_created_at) < 1e300),
    heartbeat_at TEXT,
    progress TEXT CHECK (progress IS NULL OR json_valid(progress)),
    cancel_requested_at TEXT,
    error_code TEXT,
    error_text TEXT,
    reward_model TEXT,
    started_at TEXT,
    ended_at TEXT
) STRICT;;
CREATE UNIQUE INDEX jobs_one_active_a_device ON jobs (device) WHERE state IN ('running', 'cancelling');;
CREATE TABLE reward_models (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL,
    name TEXT NOT NULL UNIQUE,
    parent TEXT,
    base_lm TEXT NOT NULL,
    template TEXT NOT NULL,
    snapshot_id TEXT REFERENCES snapshots (id),
    job_id TEXT REFERENCES jobs (id),
    sha256 TEXT NOT NULL,
    metrics TEXT NOT NULL CHECK (json_valid(metrics)),
    status TEXT NOT NULL CHECK (status IN ('ready', 'not_recommended', 'quarantined', 'deleted'))
) STRICT;;
CREATE TABLE events (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL,
    kind TEXT NOT NULL,
    actor TEXT NOT NULL DEFAULT '',
    detail TEXT NOT NULL CHECK (json_valid(detail))
) STRICT
"""
