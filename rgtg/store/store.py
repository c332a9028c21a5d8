"""The store: methods that write and read records, one transaction each.

Knows nothing of how a row looks (`rows`), of files and locks (`connection`), of models or the screen.
"""

import hmac
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from rgtg.errors import StoreError
from rgtg.preferences.pairs import stack_of
from rgtg.ratings.battles import Ballot
from rgtg.ratings.reward_models import Scored
from rgtg.records import Comparison, Span, Trace, Vote, new_id, now
from rgtg.store import queries, rows
from rgtg.store.annotation.rounds import AnnotationRows
from rgtg.store.backups import Backups, offered
from rgtg.store.ballots import Setting, read_ballots, read_prompts, read_rewards, read_stamp
from rgtg.store.connection import InPlace, open_store, reading
from rgtg.store.copies.copying import OUT, Copying
from rgtg.store.copies.dataset import VotesDataset
from rgtg.store.copies.journal import Journal
from rgtg.store.copies.restoring import restore_missing
from rgtg.store.history import EVERYTHING, HistoryEntry, HistoryFilter, facet_names, history, voters
from rgtg.store.jobs import JobRows
from rgtg.store.statements import exclusions
from rgtg.store.writer import Writer

CHANGING = ("comparisons", "traces", "marks", "vote_flags", "raters", "votes")
LABELS = ("good", "bad", "goes_wrong", "withdrawn")


class Store:
    """All records, in one SQLite file. Use as a context manager, or call `close`.

    An empty `created_at` is filled in; a vote or mark without a rater is the local rater's. Storing the same record again (same id, same
    content) changes nothing; other content raises StoreError, and so does every method once the file was deleted, replaced or
    overwritten. Steps are parsed on first access. `secret` keys the hashes of raters' names; the default is the database's own key.
    With `backups` a thread makes copies from time to time, where this process may write (`rgtg.store.backups`). With `votes_dataset` a missing
    database is restored from that dataset, and what is stored is copied there (`rgtg.store.copies`).
    """

    def __init__(self, path: Path, secret: str = "", backups: bool = False, votes_dataset: str = ""):
        self.path = Path(path)
        dataset = VotesDataset(votes_dataset) if votes_dataset else None
        restored = restore_missing(self.path, dataset) if dataset else None
        try:
            opened = open_store(self.path)
        except StoreError as error:
            raise offered(error, self.path) from error
        self.read_only = opened.reason  # "" while this process may write, else the reason why not
        self._file = InPlace(self.path, opened.conn is not None)
        journal = Journal(self.path.parent / OUT, opened.conn, own_key=not secret) if dataset and opened.conn else None
        noting = journal.noting if journal else nullcontext
        self._lock, self._writer = opened.lock, Writer(opened.conn, self._file.check, self._file.checkpoint, noting) if opened.conn else None
        self.jobs = JobRows(self._write, self._reading)
        self.annotation = AnnotationRows(self._write, self._reading)
        with self._reading() as conn:
            self._key = (secret or queries.value(conn, "SELECT value FROM meta WHERE key = 'rater_key'")).encode()
        self.backups = Backups(self.path, self.last_rows) if backups and not self.read_only else None
        self.copying = Copying(self.path, journal, dataset, self._write, restored) if dataset and journal and restored else None

    @property
    def lag(self) -> tuple[int, float]:
        """How many writes wait, and for how many seconds the one that is being made has."""
        return self._writer.lag if self._writer else (0, 0.0)

    def close(self) -> None:
        """Finish the accepted writes and release the file."""
        if self.backups:
            self.backups.close()
        if self._writer:
            self._writer.close()
        if self.copying:
            self.copying.close()
        if self._lock:
            self._lock.release()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # writing

    def add_comparison(self, comparison: Comparison, vote: Vote | None = None) -> Vote | None:
        """Store the comparison, its traces and the vote in one transaction, as far as they are new; the vote as stored.

        A stored comparison that is still `open` takes the state given.
        """
        at = now()
        row = rows.comparison_row(comparison, at)
        traces = [rows.trace_row(trace, comparison.id, row["created_at"]) for trace in comparison.traces]

        def task(conn: sqlite3.Connection) -> Vote | None:
            new = queries.is_new(conn, "comparisons", row)
            conn.execute("PRAGMA defer_foreign_keys=ON")  # until the commit: answers first, so that the comparison is indexed with them at once
            queries.keep_traces(conn, traces)
            if new:
                queries.insert(conn, "comparisons", row)
            else:
                queries.move(conn, row["id"], row["state"])
            return self._keep_vote(conn, vote) if vote else None

        return self._write(task)

    def add_trace(self, comparison_id: str, trace: Trace) -> Trace:
        """Store a branch; returns the trace as stored. UnknownRecord without its comparison."""
        row = rows.trace_row(trace, comparison_id, now())

        def task(conn: sqlite3.Connection) -> Trace:
            queries.need(conn, "comparisons", comparison_id, "comparison")
            queries.keep_traces(conn, [row])
            return rows.trace_of(queries.need(conn, "traces", row["id"], "trace"))

        return self._write(task)

    def add_vote(self, vote: Vote) -> Vote:
        """Store a vote, which closes an open comparison; the vote as stored, with revision, rater and time.

        StoreError where it names answers that are not this comparison's, or the comparison is expired or abandoned.
        """
        return self._write(lambda conn: self._keep_vote(conn, vote))

    def undo(self, comparison_id: str, rater_id: str | None = None, vote_id: str | None = None) -> Vote | None:
        """Withdraw the rater's current vote; the vote before it, which becomes current again, or None. Raises StoreError without a vote.

        A `withdrawn` vote is appended, and then a copy of the vote before. `vote_id` is the id of the withdrawal: if it is stored already,
        nothing changes.
        """

        def task(conn: sqlite3.Connection) -> Vote | None:
            rater = rater_id or self._local_rater(conn)
            if vote_id and queries.one(conn, "SELECT 1 FROM votes WHERE id = ?", vote_id):
                return queries.current(conn, comparison_id, rater)
            standing = stack_of(vote for vote in queries.votes(conn, comparison_id) if vote.rater_id == rater)
            if not standing:
                raise StoreError("There is nothing to undo.", "No vote of yours stands on this comparison.")
            undone = replace(
                standing[-1], id=vote_id or new_id(), verdict="withdrawn", best_trace_id=None, strength=None, reasons=(), comment="", ranking=()
            )
            self._keep_vote(conn, replace(undone, dwell_ms=None, created_at=""), undo=True)
            before = replace(standing[-2], id=new_id(), created_at="") if len(standing) > 1 else None
            return self._keep_vote(conn, before, undo=True) if before else None

        return self._write(task)

    def exclude(self, vote_id: str, reason: str | None, rejected: str = "") -> None:
        """Take a vote, or its pair with one rejected answer, out of exports and results for a reason; None takes it in again."""
        self._write(lambda conn: exclusions.flag(conn, vote_id, reason, rejected))

    def exclusions(self, vote_ids: Collection[str] | None = None) -> dict[str, dict[str, str]]:
        """Excluded votes: vote -> rejected answer of a pair, "" for the complete vote -> reason."""
        with self._reading() as conn:
            return exclusions.exclusions(conn, vote_ids)

    def set_state(self, comparison_id: str, state: str) -> None:
        """Close, expire or abandon an open comparison."""
        self._write(lambda conn: queries.move(conn, comparison_id, state))

    def add_mark(self, span: Span) -> Span:
        """Store a mark; the mark as stored. The label `withdrawn` on the same span withdraws the rater's mark."""

        def task(conn: sqlite3.Connection) -> Span:
            row = rows.mark_row(replace(span, rater_id=span.rater_id or self._local_rater(conn)), now())
            if row["label"] not in LABELS:
                raise StoreError(f"A mark is one of {', '.join(LABELS)}.", f"Found `{row['label']}`.")
            queries.need(conn, "raters", row["rater_id"], "rater")
            queries.need(conn, "traces", row["trace_id"], "trace")
            num_tokens = queries.value(conn, "SELECT json_array_length(steps, '$.steps') FROM traces WHERE id = ?", row["trace_id"])
            if not 0 <= row["start"] < row["end"] <= num_tokens:
                raise StoreError("A mark has to lie within its answer.", f"Found tokens {row['start']} to {row['end']} of {num_tokens}.")
            queries.keep(conn, "marks", row)
            return rows.span_of(queries.need(conn, "marks", row["id"], "mark"))

        return self._write(task)

    def rater(self, kind: str = "local", subject: str = "") -> str:
        """Id of a rater (`local`, `anonymous`, `oauth`), the same for the same subject; only a keyed hash of the subject is stored."""
        return self.known_rater(kind, subject) or self._write(lambda conn: self._keep_rater(conn, kind, subject))

    def known_rater(self, kind: str = "local", subject: str = "") -> str | None:
        """Id of a rater that the database has; None without one."""
        with self._reading() as conn:
            row = queries.one(conn, "SELECT id FROM raters WHERE subject_hmac = ?", self._hmac(kind, subject))
        return row["id"] if row else None

    def adopt(self, kind: str, subject: str) -> str | None:
        """Make the local rater this one, if the database knows no other; its id, or None.

        Up to schema 5 everybody was the local rater: what the first browser finds there are its own votes.
        """

        only_local = "SELECT max(id) AS id FROM raters HAVING count(*) = 1 AND max(kind) = 'local'"

        def task(conn: sqlite3.Connection) -> str | None:
            row = queries.one(conn, only_local)
            if row:
                conn.execute("UPDATE raters SET kind = ?, subject_hmac = ?", (kind, self._hmac(kind, subject)))
            return row["id"] if row else None

        with self._reading() as conn:
            due = queries.one(conn, only_local)
        return self._write(task) if due and not self.read_only else None

    def token(self, comparison_id: str) -> str:
        """Token of the link that shares a comparison: it cannot be computed without the database's key."""
        return self._hmac("link", comparison_id)[:32]

    def signature(self, purpose: str, text: str) -> str:
        """A keyed hash, which cannot be computed without the secret: it signs what comes back from a browser."""
        return self._hmac(purpose, text)

    def add_event(self, kind: str, actor: str = "", detail: Mapping[str, Any] | None = None) -> str:
        """Log an event (an export, a model load, a setting); its id."""
        row: rows.Row = {"id": new_id(), "created_at": now(), "kind": rows.text(kind, "The kind"), "actor": rows.text(actor, "The actor")}
        row["detail"] = rows.json_text(dict(detail or {}), "The detail")
        self._write(lambda conn: queries.keep(conn, "events", row))
        return row["id"]

    # reading: one connection per call, which sees one state of the database

    def comparison(self, comparison_id: str) -> Comparison:
        """The comparison with all its traces, equal to the stored record. Raises UnknownRecord."""
        with self._reading() as conn:
            return queries.comparison(conn, queries.need(conn, "comparisons", comparison_id, "comparison"))

    def comparisons(self, limit: int = 50, before: str | None = None, state: str | None = None) -> tuple[Comparison, ...]:
        """Comparisons, newest first; `before` is the id of the last one on the previous page."""
        with self._reading() as conn:
            last = queries.need(conn, "comparisons", before, "comparison")["seq"] if before else None
            sql = "SELECT * FROM comparisons WHERE (?1 IS NULL OR seq < ?1) AND (?2 IS NULL OR state = ?2) ORDER BY seq DESC LIMIT ?3"
            return tuple(queries.comparison(conn, row) for row in conn.execute(sql, (last, state, limit)).fetchall())

    def history(self, wanted: HistoryFilter = EVERYTHING, limit: int = 50, before: str | None = None) -> tuple[HistoryEntry, ...]:
        """A page of the list of comparisons, newest first, without steps; `before` is the id of the last entry on the previous page."""
        with self._reading() as conn:
            return history(conn, wanted, limit, before)

    def facet_names(self) -> dict[str, tuple[str, ...]]:
        """The methods and models that `history` can be filtered by."""
        with self._reading() as conn:
            return facet_names(conn)

    def voters(self) -> tuple[tuple[str, int], ...]:
        """Ids of raters with the number of comparisons they voted on, the most active first."""
        with self._reading() as conn:
            return voters(conn)

    def num_comparisons(self) -> int:
        with self._reading() as conn:
            return queries.count(conn, "num_comparisons", "comparisons")

    def votes(self, comparison_id: str) -> tuple[Vote, ...]:
        """All votes on the comparison, withdrawn ones included, in order of arrival."""
        with self._reading() as conn:
            return queries.votes(conn, comparison_id)

    def vote_of(self, comparison_id: str, rater_id: str | None = None) -> Vote | None:
        """The rater's current vote; None where there is none or it was withdrawn."""
        rater = rater_id or self.known_rater() or ""
        with self._reading() as conn:
            return queries.current(conn, comparison_id, rater)

    def current_votes(self) -> tuple[Vote, ...]:
        """Current votes, one for each rater and comparison, in order of arrival."""
        with self._reading() as conn:
            return tuple(rows.vote_of(row) for row in conn.execute("SELECT * FROM current_votes ORDER BY seq"))

    def ballots(self, setting: Setting) -> tuple[list[Ballot], dict[str, str]]:
        """Current votes as the leaderboard reads them, and a key of each comparison that repeats of it share (`rgtg.store.ballots`)."""
        with self._reading() as conn:
            return read_ballots(conn, setting)

    def last_rows(self) -> tuple[int, ...]:
        """The newest row's number in each table of what people made, votes last: it changes with every one that is stored."""
        with self._reading() as conn:
            return tuple(queries.value(conn, f"SELECT coalesce(max(seq), 0) FROM {table}") for table in CHANGING)

    def rewards(self, wanted: Mapping[str, Collection[int]]) -> Iterator[tuple[str, Scored]]:
        """Rewards of answers at prefix lengths, {trace id: lengths}, and at their end (`rgtg.store.ballots`)."""
        with self._reading() as conn:
            yield from read_rewards(conn, wanted)

    def votes_stamp(self) -> tuple[int, ...]:
        """Numbers that change whenever what the current votes say may have changed: what is computed from them is kept by it."""
        with self._reading() as conn:
            return read_stamp(conn)

    def prompts(self, comparison_ids: Collection[str], limit: int) -> dict[str, str]:
        """The ends of the prompts of these comparisons, of `limit` characters at most."""
        with self._reading() as conn:
            return read_prompts(conn, comparison_ids, limit)

    def num_votes(self) -> int:
        """Number of current votes, one for each rater and comparison, without withdrawn ones and skips."""
        with self._reading() as conn:
            return queries.count(conn, "num_votes", "current_votes WHERE verdict <> 'skip'")

    def marks(self, trace_id: str) -> tuple[Span, ...]:
        """Current marks of an answer: each rater's last mark on each span, without withdrawn ones."""
        with self._reading() as conn:
            marks = [rows.span_of(row) for row in conn.execute("SELECT * FROM marks WHERE trace_id = ? ORDER BY seq", (trace_id,))]
        return queries.standing(marks)

    def all_marks(self) -> dict[str, tuple[Span, ...]]:
        """Current marks by the id of their answer, read in one transaction."""
        marks: dict[str, list[Span]] = {}
        with self._reading() as conn:
            for row in conn.execute("SELECT * FROM marks ORDER BY seq"):
                span = rows.span_of(row)
                marks.setdefault(span.trace_id, []).append(span)
        return {trace_id: queries.standing(spans) for trace_id, spans in marks.items()}

    def facts(self) -> Iterator[tuple[Comparison, tuple[Vote, ...]]]:
        """Every comparison with all its votes, oldest first, in one transaction.

        Raises StoreError naming the row whose content does not match its hash: nothing else detects flipped bits.
        """
        with self._reading() as conn:
            yield from queries.checked_facts(conn)

    def _reading(self) -> AbstractContextManager[sqlite3.Connection]:
        self._file.check()
        return reading(self.path)

    # inside a task

    def _write(self, task: Any) -> Any:
        if self._writer is None:
            raise StoreError("Nothing was stored.", self.read_only)
        return self._writer(task)

    def _hmac(self, kind: str, subject: str) -> str:
        return hmac.new(self._key, f"{kind}\n{rows.text(subject, 'The rater')}".encode(), "sha256").hexdigest()

    def _keep_rater(self, conn: sqlite3.Connection, kind: str, subject: str) -> str:
        subject_hmac = self._hmac(kind, subject)
        row = (new_id(), now(), kind, subject_hmac)
        conn.execute("INSERT INTO raters (id, created_at, kind, subject_hmac) VALUES (?, ?, ?, ?) ON CONFLICT (subject_hmac) DO NOTHING", row)
        return queries.value(conn, "SELECT id FROM raters WHERE subject_hmac = ?", subject_hmac)

    def _local_rater(self, conn: sqlite3.Connection) -> str:
        return self._keep_rater(conn, "local", "")

    def _keep_vote(self, conn: sqlite3.Connection, vote: Vote, undo: bool = False) -> Vote:
        rater_id = vote.rater_id or self._local_rater(conn)
        sql = "SELECT coalesce(max(revision), 0) FROM votes WHERE comparison_id = ? AND rater_id = ?"
        last = queries.value(conn, sql, vote.comparison_id, rater_id)
        row = rows.vote_row(replace(vote, rater_id=rater_id, revision=last + 1), now())
        if queries.is_new(conn, "votes", row):
            comparison = queries.need(conn, "comparisons", row["comparison_id"], "comparison")
            queries.need(conn, "raters", rater_id, "rater")
            if not undo:  # that is made of a vote which was checked
                traces = conn.execute("SELECT id FROM traces WHERE comparison_id = ?", (vote.comparison_id,))
                queries.check_vote(vote, comparison["state"], {trace["id"] for trace in traces})
            queries.insert(conn, "votes", row)
            if comparison["state"] == "open":
                queries.move(conn, comparison["id"], "closed")
        return rows.vote_of(queries.need(conn, "votes", row["id"], "vote"))
