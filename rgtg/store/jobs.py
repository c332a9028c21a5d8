"""Rows of training jobs and of the reward models they published; one transaction per method.

Knows nothing of processes, folders or training. A state changes only from the states named in the statement, so of two
concurrent callers only one succeeds.
"""

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from typing import Any

from rgtg.errors import StoreError, UnknownRecord
from rgtg.records import Job, RewardModelRow, now
from rgtg.store import queries, rows

STATUSES = ("ready", "not_recommended", "quarantined", "deleted")

# the oldest whose device is free; that two of one device are never active is kept by an index besides
CLAIM = f"""
UPDATE jobs SET state = 'running', attempt = attempt + 1, started_at = ?, ended_at = NULL,
    pid = NULL, pid_created_at = NULL, heartbeat_at = NULL, error_code = NULL, error_text = NULL
WHERE id = (
    SELECT id FROM jobs AS waiting
    WHERE state = 'queued' AND NOT EXISTS (
        SELECT 1 FROM jobs AS busy WHERE busy.device = waiting.device AND busy.state IN {Job.ACTIVE}
    )
    ORDER BY seq LIMIT 1
) RETURNING *
"""


class JobRows:
    """Methods of `store.jobs`."""

    def __init__(
        self, write: Callable[[Callable[[sqlite3.Connection], Any]], Any], reading: Callable[[], AbstractContextManager[sqlite3.Connection]]
    ):
        self._write, self._reading = write, reading

    # jobs

    def add(self, job: Job, snapshot: Mapping[str, Any] | None = None) -> Job:
        """Queue a job; `snapshot` ({"id", "filter", "num_votes", "last_vote_seq", "sha256"}) records which votes it trains on."""
        at = now()
        seen: rows.Row | None = None
        if snapshot is not None:
            seen = {"id": rows.text(snapshot["id"], "The snapshot"), "created_at": at, "filter": rows.json_text(snapshot["filter"], "The filter")}
            seen |= {name: rows.whole(snapshot[name], f"`{name}`") for name in ("num_votes", "last_vote_seq")}
            seen["sha256"] = rows.text(snapshot["sha256"], "The hash")
        row = job_row(replace(job, snapshot_id=seen["id"] if seen else job.snapshot_id, created_at=job.created_at or at))

        def task(conn: sqlite3.Connection) -> Job:
            if seen:
                queries.insert(conn, "snapshots", seen)
            queries.insert(conn, "jobs", row)
            return job_of(queries.need(conn, "jobs", job.id, "job"))

        return self._write(task)

    def claim(self) -> Job | None:
        """Mark the oldest queued job whose device is free as running and return it; None where there is none."""

        def task(conn: sqlite3.Connection) -> Job | None:
            claimed = conn.execute(CLAIM, (now(),)).fetchall()
            return job_of(claimed[0]) if claimed else None

        return self._write(task)

    def started(self, job_id: str, pid: int, pid_created_at: float) -> None:
        """Record the process that trains the job; its creation time too, because pids are reused."""
        values = (rows.whole(pid, "The pid"), rows.real(pid_created_at, "The time"), job_id)
        sql = f"UPDATE jobs SET pid = ?, pid_created_at = ? WHERE id = ? AND state IN {Job.ACTIVE}"
        self._write(lambda conn: conn.execute(sql, values).rowcount)

    def beat(self, job_id: str, progress: Mapping[str, Any] | None) -> None:
        """Record a heartbeat with the last line of progress."""
        values = (now(), rows.json_text(progress, "The progress") if progress else None, job_id)
        sql = f"UPDATE jobs SET heartbeat_at = ?, progress = coalesce(?, progress) WHERE id = ? AND state IN {Job.ACTIVE}"
        self._write(lambda conn: conn.execute(sql, values).rowcount)

    def ask_cancel(self, job_id: str) -> Job:
        """Cancel a queued job at once; a running one is `cancelling` until its process has ended. An ended job stays as it is."""

        def task(conn: sqlite3.Connection) -> Job:
            at = now()
            gone = "UPDATE jobs SET state = 'cancelled', cancel_requested_at = ?, ended_at = ? WHERE id = ? AND state = 'queued'"
            conn.execute(gone, (at, at, job_id))
            conn.execute("UPDATE jobs SET state = 'cancelling', cancel_requested_at = ? WHERE id = ? AND state = 'running'", (at, job_id))
            return job_of(queries.need(conn, "jobs", job_id, "job"))

        return self._write(task)

    def end(self, job_id: str, state: str, code: str = "", text: str = "") -> bool:
        """End an active job without a model; whether it was active. If a cancel was requested, the job ends as cancelled."""
        values = (state, rows.mended(code, "The code") or None, rows.mended(text, "The text") or None, now(), job_id)
        sql = f"""UPDATE jobs SET state = CASE state WHEN 'cancelling' THEN 'cancelled' ELSE ? END,
            error_code = ?, error_text = ?, ended_at = ? WHERE id = ? AND state IN {Job.ACTIVE}"""
        return self._write(lambda conn: conn.execute(sql, values).rowcount == 1)

    def queue_again(self, job_id: str) -> Job:
        """Queue an interrupted or failed job again. Raises StoreError where no attempts are left."""

        def task(conn: sqlite3.Connection) -> Job:
            job = job_of(queries.need(conn, "jobs", job_id, "job"))
            if job.state not in Job.RESUMABLE:
                raise StoreError("Only an interrupted or failed job can be resumed.", f"This one is {job.state}.", "Start a new one.")
            if job.attempt >= job.max_attempts:
                raise StoreError("The job has no attempts left.", f"Found {job.attempt} attempts of {job.max_attempts}.", "Start a new one.")
            conn.execute("UPDATE jobs SET state = 'queued', cancel_requested_at = NULL, ended_at = NULL WHERE id = ?", (job_id,))
            return job_of(queries.need(conn, "jobs", job_id, "job"))

        return self._write(task)

    def job(self, job_id: str) -> Job:
        """The job. Raises UnknownRecord."""
        with self._reading() as conn:
            return job_of(queries.need(conn, "jobs", job_id, "job"))

    def jobs(self, states: Sequence[str] = Job.STATES, limit: int = 200) -> tuple[Job, ...]:
        """The newest first."""
        sql = f"SELECT * FROM jobs WHERE state IN ({', '.join('?' * len(states))}) ORDER BY seq DESC LIMIT ?"
        with self._reading() as conn:
            return tuple(job_of(row) for row in conn.execute(sql, (*states, limit)))

    def last_vote_seq(self) -> int:
        with self._reading() as conn:
            return queries.value(conn, "SELECT coalesce(max(seq), 0) FROM votes")

    # reward models

    def publish(self, model: RewardModelRow, states: Sequence[str] = ("running",)) -> bool:
        """Store the model's row and its job's success in one transaction; False, and nothing stored, where the job is in none of `states`.

        A model whose job this database does not know (it was restored from before) gets its row alone.
        """
        row = model_row(replace(model, created_at=model.created_at or now()))

        def task(conn: sqlite3.Connection) -> bool:
            for column, table in (("snapshot_id", "snapshots"), ("job_id", "jobs")):
                if row[column] and not queries.one(conn, f"SELECT 1 FROM {table} WHERE id = ?", row[column]):
                    row[column] = None
            if row["job_id"]:
                if queries.need(conn, "jobs", row["job_id"], "job")["state"] not in states:
                    return False
                sql = "UPDATE jobs SET state = 'succeeded', reward_model = ?, ended_at = ?, error_code = NULL, error_text = NULL WHERE id = ?"
                conn.execute(sql, (row["name"], now(), row["job_id"]))
            queries.insert(conn, "reward_models", row)
            return True

        return self._write(task)

    def models(self, statuses: Sequence[str] = STATUSES) -> tuple[RewardModelRow, ...]:
        """The newest first."""
        sql = f"SELECT * FROM reward_models WHERE status IN ({', '.join('?' * len(statuses))}) ORDER BY seq DESC"
        with self._reading() as conn:
            return tuple(model_of(row) for row in conn.execute(sql, tuple(statuses)))

    def set_status(self, name: str, status: str) -> None:
        """Set the status of a model. Raises UnknownRecord."""
        values = (rows.text(status, "The status"), name)

        def task(conn: sqlite3.Connection) -> None:
            if conn.execute("UPDATE reward_models SET status = ? WHERE name = ?", values).rowcount != 1:
                raise UnknownRecord(f"No reward model `{name}` was trained here.")

        self._write(task)


def job_row(job: Job) -> rows.Row:
    row = {f.name: getattr(job, f.name) for f in fields(Job)}
    row["config"] = rows.json_text(job.config, "The settings of the job")
    row["progress"] = rows.json_text(job.progress, "The progress") if job.progress else None
    return {name: rows.text(value, f"`{name}`") if isinstance(value, str) else value for name, value in row.items()}


def job_of(row: rows.Stored) -> Job:
    plain = {f.name: row[f.name] for f in fields(Job) if f.name not in ("config", "progress")}
    return Job(config=json.loads(row["config"]), progress=json.loads(row["progress"]) if row["progress"] else None, **plain)


def model_row(model: RewardModelRow) -> rows.Row:
    row = {f.name: getattr(model, f.name) for f in fields(RewardModelRow)}
    row["metrics"] = rows.json_text(model.metrics, "The metrics")
    return {name: rows.text(value, f"`{name}`") if isinstance(value, str) else value for name, value in row.items()}


def model_of(row: rows.Stored) -> RewardModelRow:
    plain = {f.name: row[f.name] for f in fields(RewardModelRow) if f.name != "metrics"}
    return RewardModelRow(metrics=json.loads(row["metrics"]), **plain)
