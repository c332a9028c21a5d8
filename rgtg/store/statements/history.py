"""Lists and exports that read no steps: answers whose steps stand last in their row, and the index behind the list of comparisons.

SQLite reads a row from its beginning, so what stands behind the steps costs as much as they do. `num_tokens` is the number of an answer's tokens, and
`text_sha256` is over its row without the steps.

The index has a document of prompt and answers for each, and what it is filtered by.

`comparison_facets` has a row for each (kind, name) of a comparison: its `method`s and `model`s, whose it is (`made`), and by whom it is
`voted` on ("" for anyone), skips and withdrawn votes left out. `comparison_search` is keyed by the comparison's `seq`. Triggers keep both: a later
migration that makes `comparisons`, `traces` or `votes` again makes theirs again too. Answers are stored before their comparison (its foreign keys
are deferred): a document that is written once costs a fraction of one that grows.
"""

TABLES = ("comparison_facets", "comparison_search", *(f"comparison_search_{part}" for part in ("config", "content", "data", "docsize", "idx")))
NAMES = (("method", "$.method"), ("model", "$.base_lm.name"), ("model", "$.reward_model.name"))  # of a run; the last one of old runs alone
REBUILD = """
CREATE TABLE new_traces (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL,
    comparison_id TEXT NOT NULL REFERENCES comparisons (id),
    "column" TEXT NOT NULL CHECK ("column" GLOB '[A-L]'),
    place INTEGER NOT NULL CHECK (place >= 0),
    run TEXT NOT NULL CHECK (json_valid(run)),
    response TEXT NOT NULL,
    stop_reason TEXT NOT NULL CHECK (stop_reason IN ('eos', 'max_new_tokens', 'stopped', 'error')),
    error TEXT NOT NULL DEFAULT '',
    parent_trace_id TEXT,
    branch_position INTEGER CHECK (branch_position >= 0),
    seconds REAL NOT NULL CHECK (abs(seconds) < 1e300),
    lm_forwards INTEGER NOT NULL CHECK (lm_forwards >= 0),
    reward_forwards INTEGER NOT NULL CHECK (reward_forwards >= 0),
    note TEXT,
    check_forwards INTEGER CHECK (check_forwards >= 0),
    observer_forwards INTEGER CHECK (observer_forwards >= 0),
    lm_positions INTEGER CHECK (lm_positions >= 0),
    reward_positions INTEGER CHECK (reward_positions >= 0),
    observer_positions INTEGER CHECK (observer_positions >= 0),
    num_tokens INTEGER CHECK (num_tokens >= 0),
    text_sha256 TEXT,
    row_sha256 TEXT NOT NULL,
    steps TEXT NOT NULL CHECK (json_valid(steps)),
    CHECK ((parent_trace_id IS NULL) = (branch_position IS NULL)),
    UNIQUE (id, comparison_id),
    FOREIGN KEY (parent_trace_id, comparison_id) REFERENCES traces (id, comparison_id) DEFERRABLE INITIALLY DEFERRED
) STRICT
"""
REPLACE = """
DROP TABLE traces;;
ALTER TABLE new_traces RENAME TO traces;;
CREATE UNIQUE INDEX traces_column ON traces (comparison_id, "column", ifnull(parent_trace_id, ''))
"""
COMPARISON = "(SELECT seq FROM comparisons WHERE id = NEW.comparison_id)"


def _facets(trace: str, comparison: str, where: str = "") -> str:
    """A statement that keeps the methods and models of `trace`, a row or a table, for the comparison with this seq, as far as it is there."""
    source = "" if trace == "NEW" else f" FROM traces{where}"
    guides = f"json_each({trace}.run, '$.guides') AS guide"
    selects = [f"SELECT '{kind}', json_extract({trace}.run, '{path}') AS name, {comparison} AS seq{source}" for kind, path in NAMES]
    selects += [f"SELECT 'model', json_extract(guide.value, '$[0].name'), {comparison} FROM {f'traces, {guides}{where}' if source else guides}"]
    union = " UNION ".join(selects)
    return f"INSERT OR IGNORE INTO comparison_facets SELECT * FROM ({union}) WHERE name <> '' AND seq IS NOT NULL"


STATEMENTS = f"""
CREATE TABLE comparison_facets (
    kind TEXT NOT NULL CHECK (kind IN ('method', 'model', 'made', 'voted')),
    name TEXT NOT NULL,
    comparison_seq INTEGER NOT NULL,
    PRIMARY KEY (kind, name, comparison_seq)
) STRICT, WITHOUT ROWID;;
CREATE VIRTUAL TABLE comparison_search USING fts5 (prompt, answers, tokenize = "unicode61 remove_diacritics 2", prefix = '2 3');;
CREATE INDEX comparisons_created ON comparisons (created_at);;
CREATE TRIGGER comparisons_list_insert AFTER INSERT ON comparisons BEGIN
    INSERT INTO comparison_search (rowid, prompt, answers)
        SELECT NEW.seq, NEW.prompt, coalesce((SELECT group_concat(response, char(10)) FROM traces WHERE comparison_id = NEW.id), '');
    INSERT INTO comparison_facets SELECT 'made', NEW.rater_id, NEW.seq WHERE NEW.rater_id IS NOT NULL;
    {_facets("traces", "NEW.seq", " WHERE comparison_id = NEW.id")};
END;;
CREATE TRIGGER comparisons_list_delete AFTER DELETE ON comparisons BEGIN
    DELETE FROM comparison_search WHERE rowid = OLD.seq;
    DELETE FROM comparison_facets WHERE comparison_seq = OLD.seq;
END;;
CREATE TRIGGER traces_list_insert AFTER INSERT ON traces BEGIN
    UPDATE comparison_search SET answers = answers || char(10) || NEW.response WHERE rowid = {COMPARISON};
    {_facets("NEW", COMPARISON)};
END;;
CREATE TRIGGER votes_list_insert AFTER INSERT ON votes
WHEN NOT EXISTS (
    SELECT 1 FROM votes WHERE comparison_id = NEW.comparison_id AND rater_id = NEW.rater_id AND revision > NEW.revision
) BEGIN
    DELETE FROM comparison_facets WHERE kind = 'voted' AND name IN (NEW.rater_id, '') AND comparison_seq = {COMPARISON};
    INSERT INTO comparison_facets SELECT 'voted', NEW.rater_id, {COMPARISON} WHERE NEW.verdict NOT IN ('withdrawn', 'skip');
    INSERT INTO comparison_facets SELECT 'voted', '', {COMPARISON}
        WHERE EXISTS (SELECT 1 FROM current_votes WHERE comparison_id = NEW.comparison_id AND verdict <> 'skip');
END;;
INSERT INTO comparison_search (rowid, prompt, answers)
    SELECT seq, prompt, coalesce((SELECT group_concat(response, char(10)) FROM traces WHERE comparison_id = comparisons.id), '') FROM comparisons;;
INSERT INTO comparison_facets SELECT 'made', rater_id, seq FROM comparisons WHERE rater_id IS NOT NULL;;
{_facets("traces", "(SELECT seq FROM comparisons WHERE id = traces.comparison_id)")};;
INSERT OR IGNORE INTO comparison_facets
    SELECT 'voted', vote.rater_id, comparison.seq
    FROM current_votes AS vote JOIN comparisons AS comparison ON comparison.id = vote.comparison_id WHERE vote.verdict <> 'skip';;
INSERT OR IGNORE INTO comparison_facets SELECT 'voted', '', comparison_seq FROM comparison_facets WHERE kind = 'voted'
"""
