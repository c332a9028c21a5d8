"""The pairs of one task in memory: who was shown which, how he voted, and what a rater is shown next.

Knows nothing of models, the database or the screen. Not safe for threads by itself: `Annotation` holds its lock.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import comb
from typing import Any

import numpy as np

from rgtg.ratings.battles import BY_ANSWERS, LEFT, RIGHT, TIE, Battle
from rgtg.ratings.next_pair import next_pair
from rgtg.store.annotation.rounds import StoredPair
from rgtg.workbench.annotation.tasks import Task

APART = 3  # pairs between one and its repeat, where there are as many
LAPSE = 3600.0  # seconds without a word of a rater, after which what he was shown and did not vote on is free for others


@dataclass
class Pair:
    """A pair of a task: `columns` are indices into the task's, `traces` the answers, both in the order on screen. `raters` were shown it, and
    `votes` are the current ones, a verdict and the best answer each. `lapsed` were shown it and left; they may still vote on it."""

    id: str
    traces: tuple[str, ...]
    rule: dict[str, Any]
    raters: list[str] = field(default_factory=list)
    votes: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    lapsed: set[str] = field(default_factory=set)

    @property
    def columns(self) -> tuple[int, ...]:
        return tuple(self.rule.get("columns", ()))

    @property
    def is_new(self) -> bool:
        """Whether it is neither a repeat nor made of branches, nor a gold pair."""
        return not (self.rule.get("repeat_of") or self.rule.get("branch_of") or self.is_gold)

    @property
    def is_gold(self) -> bool:
        """Whether its better answer is known."""
        return bool(self.rule.get("gold"))


@dataclass(frozen=True)
class Plan:
    """What a rater is shown next: a pair that there is (`again`: with its sides swapped), or a new one by `rule`, which is stored with it."""

    pair: Pair | None = None
    again: bool = False
    prompt: str = ""
    columns: tuple[int, ...] = ()
    rule: dict[str, Any] = field(default_factory=dict)


class Round:
    """All pairs of a task by id, oldest first. `clock` gives the time in seconds since 1970."""

    def __init__(self, task: Task, stored: Sequence[StoredPair] = (), clock: Callable[[], float] = time.time):
        self.task, self.pairs, self._clock = task, dict[str, Pair](), clock
        self._heard: dict[str, float] = {}  # rater -> when he was last heard of
        self.shown: dict[str, list[str]] = {}  # rater -> ids of the pairs that he was shown
        self.voted: dict[str, list[str]] = {}  # rater -> ids of the pairs that he voted on, in this order
        for one in stored:
            pair = self.pairs[one.id] = Pair(one.id, one.traces, one.rule)
            if one.rater_id and one.state in ("open", "closed") and one.traces:
                self.show(pair, one.rater_id)
                self._heard[one.rater_id] = datetime.fromisoformat(one.created_at).timestamp()  # until a lapse is looked for
            for rater, verdict, best in one.votes:
                self.show(pair, rater)
                self.say(pair, rater, verdict, best)

    def add(self, pair: Pair, rater: str) -> Pair:
        self.pairs[pair.id] = pair
        self.show(pair, rater)
        return pair

    def show(self, pair: Pair, rater: str) -> None:
        pair.lapsed.discard(rater)
        if rater not in pair.raters:
            pair.raters.append(rater)
            self.shown.setdefault(rater, []).append(pair.id)

    def say(self, pair: Pair, rater: str, verdict: str | None, best: str | None = None) -> None:
        """Note the vote that stands; None where none does."""
        order = self.voted.setdefault(rater, [])
        if verdict is None:
            pair.votes.pop(rater, None)
            if pair.id in order:
                order.remove(pair.id)
            return
        self.show(pair, rater)  # he may have been away
        if pair.id not in order:
            order.append(pair.id)
        pair.votes[rater] = (verdict, best)

    def forget(self, rater: str) -> None:
        """Forget what the rater said."""
        for pair_id in tuple(self.voted.get(rater, ())):
            self.say(self.pairs[pair_id], rater, None)

    def heard(self, rater: str) -> None:
        """Note that the rater is there."""
        self._heard[rater] = self._clock()

    def lapse(self) -> None:
        """Take back the pairs that raters were shown and left: who was not heard of for `LAPSE` seconds. Repeats and branches are nobody else's."""
        now = self._clock()
        for rater, ids in self.shown.items():
            at = self._heard[rater] = min(self._heard.get(rater, now), now)  # a clock that goes back makes nobody late
            if now - at < LAPSE:
                continue
            for pair in [self.pairs[pair_id] for pair_id in ids]:
                if pair.is_new and rater not in pair.votes:
                    ids.remove(pair.id)
                    pair.raters.remove(rater)
                    pair.lapsed.add(rater)

    def waiting(self, rater: str) -> list[Pair]:
        """Pairs that the rater was shown and has not voted on, oldest first; those made of branches before the others."""
        found = [self.pairs[pair_id] for pair_id in self.shown.get(rater, ()) if rater not in self.pairs[pair_id].votes]
        return sorted(found, key=lambda pair: not pair.rule.get("branch_of"))

    def of_task(self, rater: str) -> list[Pair]:
        """Pairs that the rater was shown, without those made of branches."""
        return [pair for pair_id in self.shown.get(rater, ()) if not (pair := self.pairs[pair_id]).rule.get("branch_of")]

    def progress(self, rater: str) -> int:
        """Number of pairs that he voted on, without those made of branches."""
        return sum(not self.pairs[pair_id].rule.get("branch_of") for pair_id in self.voted.get(rater, ()))

    # ---- what comes next ------------------------------------------------------------------------

    def plan(self, rater: str, rng: np.random.Generator) -> Plan | None:
        """What to show the rater next; None when he was shown all there is for him."""
        self.heard(rater)
        self.lapse()
        mine = self.of_task(rater)
        number = len(mine) + 1
        if number > self.task.num_pairs:
            return None
        due = number * self.task.gold_share - sum(pair.is_gold for pair in mine)
        gold = [pair for pair in self.pairs.values() if pair.is_gold and rater not in pair.raters] if due > 0 else []
        if gold and rng.random() < max(due, 2 * self.task.gold_share):  # at no place that could be told beforehand
            return Plan(gold[int(rng.integers(len(gold)))])
        repeated = {pair.rule["repeat_of"] for pair in mine if pair.rule.get("repeat_of")}
        if len(repeated) < int(self.task.repeats * number + 1e-9) and (again := self._to_repeat(mine, repeated, rater)):
            return Plan(again[int(rng.integers(len(again)))], again=True)
        shared = sum(bool(pair.rule.get("shared")) for pair in mine) < self.task.overlap * number - 1e-9
        if shared and (others := [pair for pair in self.pairs.values() if pair.rule.get("shared") and pair.traces and rater not in pair.raters]):
            return Plan(min(others, key=lambda pair: len(pair.raters)))
        free = (pair for pair in self.pairs.values() if pair.is_new and pair.traces and not pair.raters and not pair.rule.get("shared"))
        if not shared and (left := next(free, None)):
            return Plan(left)
        return self._new(shared, rng)

    def _to_repeat(self, mine: Sequence[Pair], repeated: set[str], rater: str) -> list[Pair]:
        """Pairs whose repeat would say something: he preferred one or called it a tie, some time ago."""
        said = [pair for pair in mine if pair.is_new and pair.id not in repeated and pair.votes.get(rater, ("",))[0] in ("best", "tie")]
        recent = {pair.id for pair in mine[-APART:]}
        return [pair for pair in said if pair.id not in recent]

    def _new(self, shared: bool, rng: np.random.Generator) -> Plan:
        task, used = self.task, Counter(pair.rule.get("prompt") for pair in self.pairs.values() if pair.is_new)
        least = min(used[i] for i in range(len(task.prompts)))
        prompt = int(rng.choice([i for i in range(len(task.prompts)) if used[i] == least]))
        names = [str(i) for i in range(len(task.columns))]
        if task.rule in BY_ANSWERS:  # drawn of the answers of all columns, see `ensemble`
            columns, probability = tuple(range(len(names))), 1.0
        elif task.num_answers == 2:
            drawn, probability = next_pair(task.rule, names, self.battles(), rng)
            columns = tuple(int(name) for name in drawn)
        else:
            columns = tuple(int(i) for i in rng.permutation(len(names))[: task.num_answers])
            probability = 1 / comb(len(names), task.num_answers)
        rule = {"task": task.id, "rule": task.rule, "probability": probability, "columns": list(columns), "prompt": prompt}
        return Plan(prompt=task.prompts[prompt], columns=columns, rule=rule | ({"shared": True} if shared else {}))

    def battles(self) -> list[Battle]:
        """Votes on pairs as battles of columns, whose names are their numbers; repeats left out."""
        battles = []
        for pair in self.pairs.values():
            if not pair.is_new or len(pair.columns) != 2:
                continue
            left, right = map(str, pair.columns)
            for rater, (verdict, best) in pair.votes.items():
                if verdict in ("best", "tie"):
                    outcome = TIE if verdict == "tie" else LEFT if best == pair.traces[0] else RIGHT
                    battles.append(Battle(pair.id, rater, left, right, outcome))
        return battles
