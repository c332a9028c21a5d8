"""Which votes a careful snapshot leaves out, and how each rater votes: read from the votes that stand.

A snapshot is a frozen export of the votes for a training: its name, its filter, and counts of what was left out by cause. Knows nothing of
pages or of trainings.
"""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rgtg.errors import BadSettings
from rgtg.ratings.careless import Cast, Conduct, conduct, left_out

CAREFUL, ALL, GOLD = "careful", "all", "gold_pair"
FILTERS = {
    CAREFUL: "without gold pairs, votes faster than one can read, and raters who were marked as careless or banned",
    ALL: "every vote that is not excluded by hand",
}
WORDS = {  # beside those of the formats
    "gold": "votes on gold pairs",
    "careless_rater": "votes of careless raters",
    "too_quick": "votes faster than one can read",
    "banned_rater": "votes of banned raters",
}
VOTES = """
    SELECT vote.id, vote.rater_id, vote.comparison_id, vote.verdict, vote.best_trace_id, vote.seen_trace_ids,
           (SELECT max(dwell_ms) FROM votes AS own WHERE own.comparison_id = vote.comparison_id AND own.rater_id = vote.rater_id) AS dwell_ms,
           comparison.blind, CASE WHEN json_valid(comparison.pair_rule) THEN comparison.pair_rule ELSE '{}' END AS rule
    FROM current_votes AS vote JOIN comparisons AS comparison ON comparison.id = vote.comparison_id ORDER BY vote.seq"""
ANSWERS = """
    SELECT id, comparison_id, length(response) AS num_chars FROM traces
    WHERE comparison_id IN (SELECT DISTINCT comparison_id FROM votes) ORDER BY place"""


@dataclass(frozen=True)
class Sieve:
    """A filter by its name, and the votes that it leaves out with their causes."""

    name: str
    causes: Mapping[str, str] = field(default_factory=dict)


NOTHING = Sieve(ALL)


def gold(conn: sqlite3.Connection) -> dict[str, str]:
    """The better answer of each gold pair by the comparison: of those made as one, and of those that were chosen later."""
    made = "SELECT id, json_extract(pair_rule, '$.gold') AS better FROM comparisons WHERE pair_rule LIKE '%\"gold\":%' AND json_valid(pair_rule)"
    found = {row["id"]: row["better"] for row in conn.execute(made) if row["better"]}
    chosen = conn.execute("SELECT detail FROM events WHERE kind = ? ORDER BY seq", (GOLD,)).fetchall()
    return found | {one["comparison"]: one["trace"] for row in chosen for one in [json.loads(row["detail"])]}


def casts(conn: sqlite3.Connection) -> list[Cast]:
    """The votes that stand, in order of arrival."""
    answers: dict[str, dict[str, int]] = {}
    for row in conn.execute(ANSWERS):
        answers.setdefault(row["comparison_id"], {})[row["id"]] = row["num_chars"]
    better = gold(conn)
    return [_cast(row, answers.get(row["comparison_id"], {}), better.get(row["comparison_id"], "")) for row in conn.execute(VOTES)]


def _cast(row: sqlite3.Row, answers: Mapping[str, int], better: str) -> Cast:
    rule: Any = json.loads(row["rule"])
    rule = rule if isinstance(rule, dict) else {}
    seen = set(json.loads(row["seen_trace_ids"]))
    shown = [trace_id for trace_id in answers if trace_id in seen]
    place = {trace_id: number for number, trace_id in enumerate(shown)}
    return Cast(
        row["id"], row["rater_id"], row["comparison_id"], row["verdict"], place.get(row["best_trace_id"]), len(shown),
        sum(answers[trace_id] for trace_id in shown), row["dwell_ms"], bool(row["blind"]), place.get(better),
        str(rule.get("repeat_of", "")),
    )  # fmt: skip


def conduct_of(conn: sqlite3.Connection) -> dict[str, Conduct]:
    """How each rater votes, by the id of the rater."""
    return conduct(casts(conn))


def sieve(conn: sqlite3.Connection, name: str = "") -> Sieve:
    """The filter of that name; "" is careful where several raters have voted, and all votes where there is one. Raises BadSettings."""
    if name and name not in FILTERS:
        raise BadSettings(f"There is no filter of votes `{name:.40}`.", f"There are: {', '.join(FILTERS)}.", "", "filter")
    found = casts(conn)
    default = CAREFUL if len({cast.rater for cast in found}) > 1 else ALL
    if (name or default) == ALL:
        return NOTHING
    banned = {row["id"] for row in conn.execute("SELECT id FROM raters WHERE banned_at IS NOT NULL")}
    return Sieve(CAREFUL, left_out(found) | {cast.vote_id: "banned_rater" for cast in found if cast.rater in banned})


def snapshot_of(report: Any, chosen: Sieve) -> dict[str, Any]:
    """What is stored of a snapshot, from the report of its export: its name, of filter and content; the filter; what it has and leaves out."""
    name = f"{chosen.name}-{report.num_votes}-votes-{report.sha256[:8]}"
    return {
        "name": name, "filter": chosen.name, "sha256": report.sha256, "num_pairs": report.num_pairs, "num_votes": report.num_votes,
        "left_out": dict(report.skipped),
    }  # fmt: skip
