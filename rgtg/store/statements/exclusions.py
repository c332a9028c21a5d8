"""Votes and pairs that a person takes out of exports, results and training, with the reason; nothing is deleted.

Flags of votes, of which the last one says what holds. Works on a given connection; knows nothing of pages or of how pairs are made.
"""

import json
import sqlite3
from collections.abc import Collection, Mapping

from rgtg.errors import BadSettings
from rgtg.records import new_id, now
from rgtg.store import queries, rows

EXCLUDED, INCLUDED = "excluded", "included"
MAX_REASON = 300
Exclusions = Mapping[str, Mapping[str, str]]  # vote -> the rejected answer of a pair, or "" for all of the vote's -> reason


def exclusions(conn: sqlite3.Connection, vote_ids: Collection[str] | None = None) -> dict[str, dict[str, str]]:
    """What is excluded, of these votes or of all."""
    found: dict[str, dict[str, str]] = {}
    where = "" if vote_ids is None else f" AND vote_id IN ({', '.join('?' * len(vote_ids))})"
    sql = f"SELECT vote_id, flag, detail FROM vote_flags WHERE flag IN ('{EXCLUDED}', '{INCLUDED}'){where} ORDER BY seq"
    for row in conn.execute(sql, tuple(vote_ids or ())):
        detail = json.loads(row["detail"])
        if row["flag"] == EXCLUDED:
            found.setdefault(row["vote_id"], {})[detail["rejected"]] = detail["reason"]
        else:
            found.get(row["vote_id"], {}).pop(detail["rejected"], None)
    return {vote_id: answers for vote_id, answers in found.items() if answers}


def flag(conn: sqlite3.Connection, vote_id: str, reason: str | None, rejected: str = "") -> None:
    """Exclude a vote, or its pair with one rejected answer, for a reason; with None include it again. Raises UnknownRecord, BadSettings."""
    vote = queries.need(conn, "votes", vote_id, "vote")
    if rejected and rejected not in json.loads(vote["seen_trace_ids"]):
        raise BadSettings("That pair does not exist.", f"The vote `{vote_id}` did not see the answer `{rejected}`.", "Reload the page.")
    if reason is not None and not reason.strip():
        raise BadSettings("Excluding a vote needs a reason.", "", "Say why in a few words.", "reason")
    if reason is not None and len(reason) > MAX_REASON:
        raise BadSettings(f"The reason has {len(reason):,} characters; the limit is {MAX_REASON}.", "", "Shorten it.", "reason")
    detail = {"rejected": rejected, "reason": rows.text(reason or "", "The reason").strip()}
    values = (new_id(), now(), vote_id, INCLUDED if reason is None else EXCLUDED, json.dumps(detail, ensure_ascii=False))
    conn.execute("INSERT INTO vote_flags (id, created_at, vote_id, flag, detail) VALUES (?, ?, ?, ?, ?)", values)


def is_excluded(found: Exclusions, vote_id: str, rejected: str = "") -> bool:
    """Whether a vote, or its pair with a rejected answer, is excluded."""
    answers = found.get(vote_id, {})
    return "" in answers or (bool(rejected) and rejected in answers)
