"""Votes that stand as ballots for the leaderboard, and the rewards of their answers: read without unpacking the steps of any answer."""

import json
import re
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any

from rgtg.ratings.battles import BY_ANSWERS, Answer, Ballot
from rgtg.ratings.reward_models import Scored
from rgtg.records import Run
from rgtg.store.annotation.sifting import gold
from rgtg.store.rows import IDS_FIRST, ranking_of, steps_of
from rgtg.store.statements.exclusions import exclusions, is_excluded
from rgtg.system.serialization import from_dict

Setting = Callable[[Run], str]  # the name of what made an answer, whatever its prompt and seed
VOTES = """
    SELECT vote.* FROM current_votes AS vote ORDER BY vote.seq"""
ANSWERS = """
    SELECT id, comparison_id, place, stop_reason, error, response, parent_trace_id, branch_position,
           json_remove(run, '$.prompt', '$.prompt_ids', '$.seed', '$.forced_ids', '$.versions', '$.observers') AS run
    FROM traces WHERE comparison_id IN (SELECT DISTINCT comparison_id FROM votes)"""
PROMPTS = "SELECT id, prompt_sha256, pair_rule FROM comparisons WHERE id IN (SELECT DISTINCT comparison_id FROM votes)"
STEPS = """
    SELECT steps, json_remove(run, '$.prompt', '$.prompt_ids', '$.seed', '$.forced_ids', '$.versions', '$.standards') AS run
    FROM traces WHERE id = ?"""
STAMP = "SELECT coalesce(max(seq), 0) FROM votes", "SELECT count(*) FROM votes", "SELECT count(*) FROM vote_flags"

# How a step begins: position, token id, text, seven numbers, the rewards as [index, value, …]; in a string a quote is escaped
BEGINNING = ["position", "token_id", "text", "log_prob", "score", "rank_before", "rank_after", "prob_before", "prob_after", "kl", "rewards"]
STEP = re.compile(r'\[\d+,\d+,"(?:[^"\\]|\\.)*"' + r",(?:null|[-+.\deE]+)" * 7 + r",\[([^\[\]\"]*)\],")


def read_ballots(conn: sqlite3.Connection, setting: Setting) -> tuple[list[Ballot], dict[str, str]]:
    """Votes that stand, in order of arrival, and a key for each of their comparisons that is the same where the prompt, the settings and the
    answers are: repeats."""
    names: dict[str, str] = {}  # of a run as stored: thousands of answers share a few settings

    def answer(row: sqlite3.Row) -> Answer:
        if row["run"] not in names:
            names[row["run"]] = setting(_run(json.loads(row["run"])))
        text, failed = row["response"], row["stop_reason"] == "error" or not row["response"]
        branch = row["parent_trace_id"], row["branch_position"]
        return Answer(row["id"], names[row["run"]], len(text), row["place"], failed, text, *branch)

    answers: dict[str, dict[str, Answer]] = {}
    for row in conn.execute(ANSWERS):
        made = answer(row)
        answers.setdefault(row["comparison_id"], {})[made.trace_id] = made
    all_answers = {comparison: tuple(made.values()) for comparison, made in answers.items()}
    excluded, known = exclusions(conn), gold(conn)  # votes on gold pairs test the rater
    compared = {row["id"]: row for row in conn.execute(PROMPTS)}
    weights = _weights({comparison: row["pair_rule"] for comparison, row in compared.items()})
    ballots = [
        Ballot(
            row["comparison_id"], row["rater_id"], row["verdict"], row["best_trace_id"],
            tuple(seen for trace_id in json.loads(row["seen_trace_ids"]) if (seen := answers[row["comparison_id"]].get(trace_id))),
            around=all_answers.get(row["comparison_id"], ()), ranking=ranking_of(row),
            **weights.get(row["comparison_id"], {}),
        )
        for row in conn.execute(VOTES)
        if not is_excluded(excluded, row["id"]) and row["comparison_id"] not in known
    ]  # fmt: skip
    contents = {comparison: sorted((one.setting, one.text) for one in made) for comparison, made in all_answers.items()}
    return ballots, {comparison: json.dumps([compared[comparison]["prompt_sha256"], content]) for comparison, content in contents.items()}


def _weights(rules: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """`weight` and `by_answers` of the ballots on comparisons that a rule chose: 1 / its probability, over the mean of that in its task."""
    tasks: dict[Any, dict[str, float]] = {}
    by_answers: dict[str, bool] = {}
    for comparison, stored in rules.items():
        rule = _rule(stored)
        probability = rule.get("probability")
        if isinstance(probability, int | float) and 0 < probability <= 1:
            tasks.setdefault((rule.get("task"), rule.get("rule")), {})[comparison] = 1 / probability
            by_answers[comparison] = rule.get("rule") in BY_ANSWERS
    return {
        comparison: {"weight": weight * len(of_task) / sum(of_task.values()), "by_answers": by_answers[comparison]}
        for of_task in tasks.values()
        for comparison, weight in of_task.items()
    }


def _rule(stored: str) -> dict[str, Any]:
    """What a comparison says of how it was chosen; on Compare and of imports it is a word."""
    with suppress(ValueError):
        if isinstance(rule := json.loads(stored), dict):
            return rule
    return {}


def read_rewards(conn: sqlite3.Connection, wanted: Mapping[str, Collection[int]]) -> Iterator[tuple[str, Scored]]:
    """Rewards of these answers at these prefix lengths, as far as they are that long, and at their end."""
    runs: dict[str, Run] = {}
    for trace_id, lengths in wanted.items():
        row = conn.execute(STEPS, (trace_id,)).fetchone()
        if row is None:
            continue
        if row["run"] not in runs:
            runs[row["run"]] = _run(json.loads(row["run"]))
        run, (read, rewards) = runs[row["run"]], rewards_at(row["steps"], lengths)
        values = {ref: tuple(one.get(ref.name) for one in rewards) for ref in dict.fromkeys(run.models)}
        yield trace_id, Scored(read, values, frozenset(ref for ref, _ in run.guides))


def rewards_at(content: str, lengths: Collection[int]) -> tuple[tuple[int, ...], list[dict[str, float]]]:
    """The prefix lengths that an answer has, its end last, and the rewards by name at each; `content` are steps as stored.

    Each step is found by its position and token id, and only its beginning is parsed: candidates are nine tenths of the text.
    """
    if (found := _found(content, lengths)) is not None:
        return found
    steps = steps_of(content)
    read = _lengths(len(steps), lengths)
    return read, [dict(steps[length - 1].rewards) for length in read]


def _found(content: str, lengths: Collection[int]) -> tuple[tuple[int, ...], list[dict[str, float]]] | None:
    """None where the steps are laid out otherwise, as in early versions."""
    at = content.find('"steps":[') + len('"steps":[')
    head = json.loads(content[:at] + "]}") if content.startswith(IDS_FIRST) else {}
    if head.get("step", [])[: len(BEGINNING)] != BEGINNING:
        return None
    ids, names, rewards = head["token_ids"], head["rewards"], []
    read = _lengths(len(ids), lengths)
    for length in read:
        at = content.find(f'[{length - 1},{ids[length - 1]},"', at)
        step = STEP.match(content, at) if at >= 0 else None
        if step is None:  # a text that looks like a step
            return None
        flat = step[1].split(",") if step[1] else []
        rewards.append({names[int(flat[i])]: float(flat[i + 1]) for i in range(0, len(flat), 2)})
        at = step.end()
    return read, rewards


def read_stamp(conn: sqlite3.Connection) -> tuple[int, ...]:
    """Numbers that change whenever what the votes say may have changed."""
    return tuple(conn.execute(sql).fetchone()[0] for sql in STAMP)


def read_prompts(conn: sqlite3.Connection, comparison_ids: Collection[str], limit: int) -> dict[str, str]:
    """The ends of the prompts of these comparisons, `limit` characters at most."""
    rows = (conn.execute("SELECT id, substr(prompt, ?) AS prompt FROM comparisons WHERE id = ?", (-limit, one)).fetchone() for one in comparison_ids)
    return {row["id"]: row["prompt"] for row in rows if row is not None}


def _lengths(num_tokens: int, lengths: Collection[int]) -> tuple[int, ...]:
    return tuple(sorted({length for length in lengths if length <= num_tokens} | {num_tokens})) if num_tokens else ()


def _run(fields: dict[str, Any]) -> Run:
    return from_dict(Run, fields | {"prompt": ""})
