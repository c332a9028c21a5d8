"""The list of comparisons, newest first, searched and filtered, a page at a time: no query reads the steps of an answer.

Knows nothing of how a record is stored beyond its columns; the index behind it is `statements.history`.
"""

import json
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rgtg.errors import BadSettings
from rgtg.preferences.items.rankings import vote_words
from rgtg.records import Vote
from rgtg.store import queries, rows

MAX_PAGE = 500
MAX_CHARACTERS = 200  # of an answer in the list
WORD = re.compile(r"[^\W_]+(?:[^\w\s]*[^\W_]+)*")
ANSWERS = f"""
    SELECT id, "column", place, json_extract(run, '$.method') AS method, json_extract(run, '$.base_lm', '$.reward_model', '$.guides') AS models,
           substr(response, 1, {MAX_CHARACTERS}) AS text
    FROM traces WHERE comparison_id = ? ORDER BY seq"""
DATE = re.compile(r"\d{4}(-\d{2}(-\d{2}(T\d{2}(:\d{2}(:\d{2}(\.\d+)?)?)?)?)?)?")


@dataclass(frozen=True)
class HistoryFilter:
    """What of the list is wanted; "" and None filter nothing.

    `search` has words that all have to be in the prompt or an answer, the beginning of a word included, and "quoted phrases". `model` is
    a base LM or a reward model that guided. `voted`: whether a vote stands, of `rater` if given. `made_by` is the rater who generated it.
    `since` and `until` are UTC dates or times, `until` included.
    """

    search: str = ""
    method: str = ""
    model: str = ""
    voted: bool | None = None
    rater: str | None = None
    made_by: str | None = None
    since: str = ""
    until: str = ""


EVERYTHING = HistoryFilter()


@dataclass(frozen=True)
class HistoryAnswer:
    """An answer in the list: its letter, what made it, and the first 200 characters of its text. `models`: base LM, then guides."""

    letter: str
    method: str
    models: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class HistoryEntry:
    """A comparison in the list. `vote` is the current vote of the filter's rater, without one in the filter the newest of anyone;
    `best_letter` that of the answer it prefers, `words` what it says; `num_votes` counts the current votes of all raters, without skips."""

    id: str
    created_at: str
    prompt: str
    state: str
    answers: tuple[HistoryAnswer, ...]
    vote: Vote | None
    num_votes: int
    best_letter: str = ""
    words: str = ""


def history(conn: sqlite3.Connection, wanted: HistoryFilter = EVERYTHING, limit: int = 50, before: str | None = None) -> tuple[HistoryEntry, ...]:
    """A page of the list, newest first; `before` is the id of the last entry on the page before. Raises UnknownRecord, BadSettings."""
    last = queries.need(conn, "comparisons", before, "comparison")["seq"] if before else None
    sql, values = _query(conn, wanted, last)
    found = conn.execute(f"{sql} LIMIT ?", (*values, max(0, min(limit, MAX_PAGE)))).fetchall()
    return tuple(_entry(conn, row, wanted.rater) for row in found)


def matching(conn: sqlite3.Connection, wanted: HistoryFilter) -> set[str]:
    """The ids of all comparisons that the filter lets through."""
    sql, values = _query(conn, wanted, None)
    return {row["id"] for row in conn.execute(f"SELECT id FROM ({sql})", values)}


def facet_names(conn: sqlite3.Connection) -> dict[str, tuple[str, ...]]:
    """The methods and models that the list can be filtered by: {"method": (…), "model": (…)}."""
    return {kind: _names(conn, kind) for kind in ("method", "model")}


def _names(conn: sqlite3.Connection, kind: str) -> tuple[str, ...]:
    """The names of a kind, each found by a seek behind the one before: DISTINCT would read the index row by row."""
    names: list[str] = []
    while row := queries.one(conn, "SELECT min(name) AS name FROM comparison_facets WHERE kind = ? AND name > ?", kind, names[-1] if names else ""):
        if row["name"] is None:
            break
        names.append(row["name"])
    return tuple(names)


def _query(conn: sqlite3.Connection, wanted: HistoryFilter, last: int | None) -> tuple[str, list[Any]]:
    """The comparisons that are wanted, by the most selective index: the words, else the rarest facet, else their order."""
    facets = [("method", wanted.method), ("model", wanted.model), ("made", wanted.made_by or "")]
    facets += [("voted", wanted.rater or "")] if wanted.voted else []
    facets = sorted(((kind, name) for kind, name in facets if name or kind == "voted"), key=lambda facet: _size(conn, *facet))
    conditions, values = list[str](), list[Any]()
    source, seq = "comparisons AS comparison", "comparison.seq"
    if match := _match(wanted.search):
        source, seq = "comparison_search AS search CROSS JOIN comparisons AS comparison ON comparison.seq = search.rowid", "search.rowid"
        conditions, values = ["comparison_search MATCH ?"], [match]
    elif facets:
        source = "comparison_facets AS facet CROSS JOIN comparisons AS comparison ON comparison.seq = facet.comparison_seq"
        seq, conditions, values = "facet.comparison_seq", ["facet.kind = ? AND facet.name = ?"], [*facets.pop(0)]
    elif wanted.search.strip():
        conditions = ["0"]  # nothing but punctuation
    exists = "EXISTS (SELECT 1 FROM comparison_facets WHERE kind = ? AND name = ? AND comparison_seq = comparison.seq)"
    for kind, name in facets:
        conditions, values = [*conditions, exists], [*values, kind, name]
    if wanted.voted is False:
        conditions, values = [*conditions, f"NOT {exists}"], [*values, "voted", wanted.rater or ""]
    since, until = _date(wanted.since, "since"), _date(wanted.until, "until")
    if since or until:
        until = f"{until}\uffff" if until else "\uffff"  # a day includes its hours
        bounds = queries.one(conn, "SELECT min(seq), max(seq) FROM comparisons WHERE created_at >= ? AND created_at <= ?", since, until)
        low, high = (bounds[0] or 0, bounds[1] or 0) if bounds else (0, 0)
        conditions += [f"{seq} >= ? AND {seq} <= ? AND comparison.created_at >= ? AND comparison.created_at <= ?"]
        values += [low, high, since, until]
    if last is not None:
        conditions, values = [*conditions, f"{seq} < ?"], [*values, last]
    conditions += ["NOT (comparison.blind = 1 AND comparison.state = 'open')"]  # of a blind pair that nobody voted on the methods are a secret
    where = f" WHERE {' AND '.join(conditions)}"
    return f"SELECT comparison.* FROM {source}{where} ORDER BY {seq} DESC", values


def _size(conn: sqlite3.Connection, kind: str, name: str) -> int:
    return int(queries.value(conn, "SELECT count(*) FROM comparison_facets WHERE kind = ? AND name = ?", kind, name))


def _match(search: str) -> str:
    """The query of the full-text index: every word begins one of the text's, a quoted phrase is there as it is."""
    terms = []
    for i, part in enumerate(search.split('"')):
        if i % 2:
            terms += [f'"{part}"'] if WORD.search(part) else []
        else:
            terms += [f'"{word}"*' for word in WORD.findall(part)]
    return " ".join(terms)


def _date(text: str, name: str) -> str:
    text = text.strip().replace(" ", "T")
    if text and not DATE.fullmatch(text):
        raise BadSettings(f"`{name}` is no date.", f"Found `{text:.40}`.", "Write it as 2026-11-30 or 2026-11-30T18:00, in UTC.", name)
    return text


def _entry(conn: sqlite3.Connection, row: sqlite3.Row, rater: str | None) -> HistoryEntry:
    answers, letters = dict[str, sqlite3.Row](), dict[str, str]()
    for answer in conn.execute(ANSWERS, (row["id"],)):
        answers[answer["column"]] = answer  # the last one of a column goes on where the others were stopped
        letters[answer["id"]] = answer["column"]
    votes = conn.execute("SELECT * FROM current_votes WHERE comparison_id = ? ORDER BY seq", (row["id"],)).fetchall()
    own = [vote for vote in votes if rater is None or vote["rater_id"] == rater]
    vote = rows.vote_of(own[-1]) if own else None
    in_order = sorted(answers.values(), key=lambda answer: (answer["place"], answer["column"]))
    listed = tuple(HistoryAnswer(answer["column"], answer["method"], _models(answer["models"]), answer["text"]) for answer in in_order)
    num_votes = sum(vote["verdict"] != "skip" for vote in votes)
    best_letter = letters.get(vote.best_trace_id, "") if vote and vote.best_trace_id else ""
    words = vote_words(vote, letters) if vote else ""
    return HistoryEntry(row["id"], row["created_at"], row["prompt"], row["state"], listed, vote, num_votes, best_letter, words)


def _models(stored: str) -> tuple[str, ...]:
    """Names of the models of a run: [{"name": …}, None or the one of an old run, [[{"name": …}, weight], …]] -> (name, …)."""
    base_lm, old, guides = json.loads(stored)
    refs: Sequence[Any] = [base_lm, old, *(guide for guide, _ in guides or [])]
    return tuple(dict.fromkeys(ref["name"] for ref in refs if ref and ref["name"]))


def voters(conn: sqlite3.Connection, limit: int = 50) -> tuple[tuple[str, int], ...]:
    """Raters with the number of comparisons on which a vote of theirs stands, the most active first."""
    sql = "SELECT name, count(*) FROM comparison_facets WHERE kind = 'voted' AND name <> '' GROUP BY name ORDER BY 2 DESC, 1 LIMIT ?"
    return tuple((row[0], row[1]) for row in conn.execute(sql, (limit,)))
