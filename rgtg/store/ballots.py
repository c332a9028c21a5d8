"""Votes that stand as ballots for the leaderboard: read without the steps of any answer."""

import json
import sqlite3
from collections.abc import Callable
from typing import Any

from rgtg.ratings.battles import Answer, Ballot
from rgtg.records import Run
from rgtg.system.serialization import from_dict

Setting = Callable[[Run], str]  # the name of what made an answer, whatever its prompt and seed
VOTES = """
    SELECT vote.comparison_id, vote.rater_id, vote.verdict, vote.best_trace_id, vote.seen_trace_ids
    FROM current_votes AS vote ORDER BY vote.seq"""
ANSWERS = """
    SELECT id, comparison_id, place, stop_reason, error, response,
           json_remove(run, '$.prompt', '$.prompt_ids', '$.seed', '$.forced_ids', '$.versions', '$.observers') AS run
    FROM traces WHERE comparison_id IN (SELECT DISTINCT comparison_id FROM votes)"""
PROMPTS = "SELECT id, prompt_sha256 FROM comparisons WHERE id IN (SELECT DISTINCT comparison_id FROM votes)"


def read_ballots(conn: sqlite3.Connection, setting: Setting) -> tuple[list[Ballot], dict[str, str]]:
    """Votes that stand, in order of arrival, and a key for each of their comparisons that is the same where the prompt, the settings and the
    answers are: repeats."""
    names: dict[str, str] = {}  # of a run as stored: thousands of answers share a few settings

    def answer(row: sqlite3.Row) -> Answer:
        if row["run"] not in names:
            names[row["run"]] = setting(_run(json.loads(row["run"])))
        text = row["response"]
        return Answer(row["id"], names[row["run"]], len(text), row["place"], failed=row["stop_reason"] == "error" or not text)

    answers: dict[str, dict[str, Answer]] = {}
    contents: dict[str, list[tuple[str, str]]] = {}
    for row in conn.execute(ANSWERS):
        made = answer(row)
        answers.setdefault(row["comparison_id"], {})[made.trace_id] = made
        contents.setdefault(row["comparison_id"], []).append((made.setting, row["response"]))
    ballots = [
        Ballot(
            row["comparison_id"], row["rater_id"], row["verdict"], row["best_trace_id"],
            tuple(seen for trace_id in json.loads(row["seen_trace_ids"]) if (seen := answers[row["comparison_id"]].get(trace_id))),
        )
        for row in conn.execute(VOTES)
    ]  # fmt: skip
    prompts = {row["id"]: row["prompt_sha256"] for row in conn.execute(PROMPTS)}
    return ballots, {comparison: json.dumps([prompts[comparison], sorted(content)]) for comparison, content in contents.items()}


def _run(fields: dict[str, Any]) -> Run:
    return from_dict(Run, fields | {"prompt": ""})
