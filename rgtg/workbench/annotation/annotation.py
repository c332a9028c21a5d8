"""The verbs of annotation: make a task, prepare blind pairs, vote, undo, mark, branch, consent, erase.

A pair is stored before it is shown, and what made its answers leaves this room only once a vote on it is stored. Knows nothing of the screen.
"""

import json
import random
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from rgtg.config import COLUMN_NAMES, Settings
from rgtg.errors import BadSettings, RgtgError, StoreError, UnknownRecord
from rgtg.guidance.methods import parse_run
from rgtg.preferences.prompt_rows import read_prompts
from rgtg.ratings.battles import BY_ANSWERS
from rgtg.ratings.next_pair import RULES
from rgtg.records import Comparison, Span, Trace, Vote, new_id, now
from rgtg.workbench.annotation.ensemble import drawn
from rgtg.workbench.annotation.gold import GoldPair, comparison_of, read_gold
from rgtg.workbench.annotation.rounds import Pair, Plan, Round
from rgtg.workbench.annotation.tasks import MAX_PROMPTS, Guidelines, Task, Tasks
from rgtg.workbench.columns.copying import run_text
from rgtg.workbench.running import RunningComparison
from rgtg.workbench.visitors import Raters, Visitor
from rgtg.workbench.voting.door import VoteDoor

if TYPE_CHECKING:
    from rgtg.records import ColumnSpec
    from rgtg.store.store import Store

REASONS = ("more fluent", "more accurate", "more relevant", "better style", "safer")
LABELS = ("good", "bad", "goes_wrong", "withdrawn")
BROKEN = "broken"  # the flag of a vote on a pair that cannot be judged
TRIES = 3  # seeds, until two answers differ
MAX_COMMENT = 2_000
Turn = Callable[[], AbstractContextManager[Callable[[], bool]]]  # entered while models are used; gives what says whether to stop


@dataclass(frozen=True)
class Progress:
    """How far a rater is, and when he agreed that his votes are stored; "" before."""

    voted: int
    num_pairs: int
    consent_at: str


def no_turn() -> AbstractContextManager[Callable[[], bool]]:
    return nullcontext(lambda: False)


def _run(running: RunningComparison, stopped: Callable[[], bool]) -> None:
    """Run a comparison to its end, or until it was stopped."""
    try:
        for _ in running:
            if stopped():
                running.stop()
    finally:
        running.close()


class Annotation:
    """Annotation in one installation. `compare` and `branch` are those of the workbench."""

    def __init__(
        self,
        settings: Settings,
        store: "Callable[[], Store]",
        raters: Raters,
        compare: Callable[..., RunningComparison],
        branch: Callable[..., RunningComparison],
        door: VoteDoor | None = None,
    ):
        self.tasks, self.guidelines = (
            Tasks(settings.data_dir / "annotation" / "tasks"),
            Guidelines(settings.data_dir / "annotation" / "guidelines.json"),
        )
        self._store, self._raters, self._compare, self._branch = store, raters, compare, branch
        self._door = door or VoteDoor(store, raters, settings.public)
        self._rounds: dict[str, Round] = {}
        self._lock = threading.RLock()
        self._rng = np.random.default_rng()

    # --- tasks ----------------------------------------------------------------------------------------------------

    @staticmethod
    def rules() -> tuple[str, ...]:
        """The rules by which pairs of columns can be chosen."""
        return tuple(RULES)

    @staticmethod
    def prompts_in(source: str) -> tuple[str, ...]:
        """The prompts of a file or data set. Raises BadData naming the line or row."""
        return tuple(read_prompts(source, MAX_PROMPTS + 1))

    @staticmethod
    def gold_in(source: str) -> tuple[GoldPair, ...]:
        """The gold pairs of a file of preferences. Raises BadData naming the row, BadSettings."""
        return read_gold(source)

    def add_task(
        self, task: Task, columns: "Sequence[ColumnSpec]", line_up: str = "", gold: Sequence[GoldPair] = (), confirmed: bool = False
    ) -> Task:
        """Store a task with these columns and gold pairs; returns it with its id. Raises RgtgError, and OverBudget where answers at once could
        exceed the limits, unless the user has `confirmed` it."""
        task = replace(task, columns=tuple(run_text(spec) for spec in columns), line_up=line_up)
        task.check()
        self._check_cost(task, confirmed)
        added = self.tasks.add(task)
        for pair in gold:
            self._store().add_comparison(comparison_of(pair, added.id, self.guidelines.current()[0], random.Random()))
        return added

    def _check_cost(self, task: Task, confirmed: bool) -> None:
        """Prepare, and do not run, each set of columns that may be asked to answer the longest prompt together."""
        specs = [parse_run(column, task.generation) for column in task.columns]
        together = len(specs) if task.rule in BY_ANSWERS else task.num_answers
        for columns in combinations(specs, together):
            self._compare(max(task.prompts, key=len), columns, task.generation, 0, task.base_lm or None, save=False, confirmed=confirmed).close()

    def choose_gold(self, task_id: str, comparison_id: str, visitor: Visitor) -> Pair:
        """Make a pair a gold one, the answer that the visitor voted for being better; for everybody who has not seen it yet. Raises BadSettings
        where he did not vote for one of its answers."""
        _, pair, rater = self._mine(task_id, comparison_id, visitor)
        vote = self._store().vote_of(pair.id, rater)
        if vote is None or vote.best_trace_id is None:
            raise BadSettings("A gold pair needs its better answer.", "You have not preferred one of these.", "Vote for the better one first.")
        self._store().annotation.set_gold(pair.id, vote.best_trace_id, rater)
        with self._lock:
            pair.rule["gold"] = vote.best_trace_id
            return pair

    def _round(self, task_id: str) -> Round:
        """The round of a task, read from the database at first use."""
        task = self.tasks.get(task_id)
        with self._lock:
            if task.id not in self._rounds:
                self._rounds[task.id] = Round(task, self._store().annotation.pairs(task.id))
            return self._rounds[task.id]

    def _mine(self, task_id: str, comparison_id: str, visitor: Visitor) -> tuple[Round, Pair, str]:
        """The round, the pair and the visitor's rater. Raises UnknownRecord where he was not shown that pair."""
        current, rater = self._round(task_id), self._raters.rater(visitor)
        pair = current.pairs.get(comparison_id)
        if pair is None or not (rater in pair.raters or rater in pair.lapsed):
            raise UnknownRecord("That pair is not one of yours.", "", "Reload the page.")
        return current, pair, rater

    def pair(self, task_id: str, comparison_id: str, visitor: Visitor) -> Pair:
        """A pair that the visitor was shown. Raises UnknownRecord."""
        return self._mine(task_id, comparison_id, visitor)[1]

    # --- pairs ----------------------------------------------------------------------------------------------------

    def progress(self, task_id: str, visitor: Visitor) -> Progress:
        current, rater = self._round(task_id), self._raters.rater(visitor)
        with self._lock:
            return Progress(current.progress(rater), current.task.num_pairs, self._store().annotation.consent_of(rater))

    def waiting(self, task_id: str, visitor: Visitor) -> list[Pair]:
        """Pairs that are ready for the visitor and not voted on, in the order in which he is to see them."""
        current, rater = self._round(task_id), self._raters.rater(visitor)
        with self._lock:
            current.heard(rater)
            return current.waiting(rater)

    def all_shown(self, task_id: str, visitor: Visitor) -> bool:
        """Whether the visitor was shown as many pairs as the task has for a rater."""
        current, rater = self._round(task_id), self._raters.rater(visitor)
        with self._lock:
            return len(current.of_task(rater)) >= current.task.num_pairs

    def voted(self, task_id: str, visitor: Visitor, limit: int) -> list[Pair]:
        """The last pairs that the visitor voted on, oldest first."""
        current, rater = self._round(task_id), self._raters.rater(visitor)
        with self._lock:
            return [current.pairs[pair_id] for pair_id in current.voted.get(rater, ())[-limit:]]

    def shown(self, pair: Pair) -> Comparison:
        """The comparison of a pair, with only those answers that are shown, in the order on screen."""
        comparison = self._store().comparison(pair.id)
        return replace(comparison, traces=tuple(trace for trace_id in pair.traces if (trace := comparison.trace(trace_id)) is not None))

    def hides(self, comparison: Comparison, visitor: Visitor) -> bool:
        """Whether what made the answers is still a secret to the visitor: nobody voted yet, or the pair waits for his vote."""
        if not comparison.blind or visitor.kind == "local":
            return False
        if comparison.state == "open":
            return True
        with self._lock:
            pairs = [pair for current in self._rounds.values() if (pair := current.pairs.get(comparison.id))]
        rater = self._raters.find(visitor) if pairs else None
        return any(rater in pair.raters and rater not in pair.votes for pair in pairs)

    def prepare(self, task_id: str, visitor: Visitor, turn: Turn = no_turn) -> Pair | None:
        """One more pair for the visitor, stored; None when he was shown all. `turn` is entered only where models are needed."""
        current, rater = self._round(task_id), self._raters.rater(visitor)
        with self._lock:
            plan = current.plan(rater, self._rng)
            if plan is None:
                return None
            if plan.pair is not None and not plan.again:
                current.show(plan.pair, rater)
                return plan.pair
        comparison = self._repeat(plan.pair, rater) if plan.pair else self._generate(current.task, plan, visitor, rater, turn)
        self._store().add_comparison(comparison)
        pair = Pair(comparison.id, tuple(trace.id for trace in comparison.traces), json.loads(comparison.pair_rule))
        with self._lock:
            return current.add(pair, rater)

    def _generate(self, task: Task, plan: Plan, visitor: Visitor, rater: str, turn: Turn) -> Comparison:
        specs = [parse_run(task.columns[i], task.generation) for i in plan.columns]
        with turn() as stopped:
            attempt = 0
            for attempt in range(TRIES):  # noqa: B007
                seed = int(self._rng.integers(1_000_000))
                running = self._compare(
                    plan.prompt, specs, task.generation, seed, task.base_lm or None, visitor=visitor, save=False, confirmed=True, stopped=stopped
                )
                _run(running, stopped)
                if failed := next((trace for trace in running.traces if trace.stop_reason in ("error", "stopped")), None):
                    raise RgtgError("The next pair could not be generated.", failed.error, "Try again.")
                if len({trace.response for trace in running.traces}) > 1:
                    break  # else there is nothing to choose
        rule = plan.rule | ({"same_answers_skipped": attempt} if attempt else {})
        comparison = running.comparison
        if task.rule in BY_ANSWERS:
            with self._lock:
                shown, rule = drawn(running.traces, rule, self._round(task.id).battles(), self._rng)
            comparison = replace(comparison, traces=tuple(_moved(trace, place) for place, trace in enumerate(shown)))
        return self._blind(replace(comparison, rater_id=rater), rule)

    def _blind(self, comparison: Comparison, rule: dict[str, Any]) -> Comparison:
        version, _ = self.guidelines.current()
        return replace(comparison, state="open", blind=True, pair_rule=json.dumps(rule), guideline_version=version)

    def _repeat(self, pair: Pair, rater: str) -> Comparison:
        """The same answers once more, in the opposite order."""
        before = self.shown(pair)
        traces = tuple(_moved(trace, place) for place, trace in enumerate(reversed(before.traces)))
        rule = {name: value for name, value in pair.rule.items() if name not in ("shared", "gold")}
        rule |= {"repeat_of": pair.id, "columns": list(reversed(pair.columns))}
        return self._blind(Comparison(new_id(), before.prompt, traces, rater_id=rater, created_at=now()), rule)

    def branch(self, task_id: str, comparison_id: str, trace_id: str, position: int, visitor: Visitor, turn: Turn = no_turn) -> Pair:
        """A pair of two continuations of an answer from one of its tokens on, by the two most probable other candidates there. Raises RgtgError.

        It is a comparison of its own, so that the vote on the pair that it came from stays: a copy of the answer, and its two branches.
        """
        current, pair, rater = self._mine(task_id, comparison_id, visitor)
        trace = next((trace for trace in self.shown(pair).traces if trace.id == trace_id), None)
        if trace is None or not 0 <= position < len(trace.steps):
            raise BadSettings("That token is not part of this answer.", "", "Reload the page.")
        step = trace.steps[position]
        others = sorted((c for c in step.candidates if c.token_id != step.token_id), key=lambda c: -c.prob_after)
        tokens = [c.token_id for c in others[:2]]
        if len(tokens) < 2:
            raise BadSettings("There are no two other ways from this token.", f"It had {len(others) + 1} candidates.", "Choose another token.")
        parent = _moved(trace, 0)
        rule = {"task": task_id, "rule": "branch", "branch_of": pair.id, "trace": trace.id, "position": position}
        comparison = self._blind(Comparison(new_id(), parent.run.prompt, (parent,), rater_id=rater, created_at=now()), rule)
        with turn() as stopped:
            self._store().add_comparison(comparison)
            try:
                branches = [self._branched(comparison.id, parent.id, position, token, stopped) for token in self._rng.permutation(tokens)]
            except BaseException:
                self._store().set_state(comparison.id, "abandoned")
                raise
        with self._lock:
            return current.add(Pair(comparison.id, tuple(branches), rule), rater)

    def _branched(self, comparison_id: str, parent_id: str, position: int, token_id: int, stopped: Callable[[], bool]) -> str:
        running = self._branch(comparison_id, parent_id, position, int(token_id))
        _run(running, stopped)
        if running.not_stored:
            raise running.not_stored
        return running.traces[0].id

    # --- what a rater says ----------------------------------------------------------------------------------------

    def consent(self, visitor: Visitor) -> str:
        """Store that the visitor agrees that his votes are stored."""
        return self._store().annotation.consent(self._raters.rater(visitor))

    def vote_token(self, pair: Pair, visitor: Visitor) -> str:
        """What a vote on the pair has to come with on a public server; "" on a laptop."""
        return self._door.token(pair.id, pair.traces, visitor)

    def vote(self, task_id: str, vote: Vote, visitor: Visitor, broken: bool = False, token: str = "") -> Vote:
        """Store a vote on a pair that the visitor was shown; `broken` flags the pair. Raises StoreError, also before he agreed."""
        current, pair, rater = self._mine(task_id, vote.comparison_id, visitor)
        if not self._store().annotation.consent_of(rater):
            raise StoreError("The vote was not stored.", "You have not agreed yet that your votes are stored.", "Agree first.")
        if set(vote.reasons) - set(REASONS):
            raise BadSettings("That reason is unknown.", f"Known are: {', '.join(REASONS)}.", "Reload the page.")
        if len(vote.comment) > MAX_COMMENT:
            raise BadSettings(f"A comment has up to {MAX_COMMENT:,} characters.", f"Found {len(vote.comment):,}.", "Shorten it.")
        vote, done = self._door.admit(replace(vote, seen_trace_ids=pair.traces, rater_id=rater), token, visitor)
        stored = done or self._store().add_vote(vote)
        if broken:
            self._store().annotation.flag(stored.id, BROKEN)
        self._note(current, pair, rater)
        return stored

    def undo(self, task_id: str, comparison_id: str, visitor: Visitor, vote_id: str | None = None) -> Vote | None:
        """Undo the visitor's last vote on a pair; the vote before it, which stands again, or None. A repeated `vote_id` changes nothing."""
        current, pair, rater = self._mine(task_id, comparison_id, visitor)
        self._store().undo(comparison_id, rater, vote_id)
        return self._note(current, pair, rater)

    def _note(self, current: Round, pair: Pair, rater: str) -> Vote | None:
        with self._lock:
            vote = self._store().vote_of(pair.id, rater)
            current.say(pair, rater, vote.verdict if vote else None, vote.best_trace_id if vote else None)
            return vote

    def vote_on(self, pair: Pair, visitor: Visitor) -> Vote | None:
        """The visitor's vote on a pair that stands; None where there is none."""
        return self._store().vote_of(pair.id, self._raters.rater(visitor))

    def mark(self, task_id: str, comparison_id: str, span: Span, visitor: Visitor) -> Span:
        """Store a mark on an answer of a pair that the visitor was shown. Raises RgtgError."""
        _, pair, rater = self._mine(task_id, comparison_id, visitor)
        if not self._store().annotation.consent_of(rater):
            raise StoreError("The mark was not stored.", "You have not agreed yet that your votes are stored.", "Agree first.")
        if span.trace_id not in pair.traces:
            raise UnknownRecord("That answer is not part of this pair.", "", "Reload the page.")
        return self._store().add_mark(replace(span, rater_id=rater))

    def marks(self, pair: Pair, visitor: Visitor) -> list[Span]:
        """The visitor's own marks on the answers of a pair."""
        rater = self._raters.rater(visitor)
        return [span for trace_id in pair.traces for span in self._store().marks(trace_id) if span.rater_id == rater]

    def erase(self, visitor: Visitor) -> dict[str, int]:
        """Erase all that the visitor said, on every page; the number of his votes and marks."""
        rater = self._raters.find(visitor)
        if rater is None:
            return {"votes": 0, "marks": 0}
        erased = self._store().annotation.erase(rater)
        with self._lock:
            for current in self._rounds.values():
                current.forget(rater)
        return erased


def _moved(trace: Trace, place: int) -> Trace:
    """A copy of an answer for another comparison, at this place."""
    copy = replace(trace, id=new_id(), column=COLUMN_NAMES[place], place=place, parent_trace_id=None, branch_position=None)
    return replace(copy, created_at=now())
