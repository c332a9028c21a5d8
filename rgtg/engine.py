"""The decoding engine: all columns of a comparison advance together and yield a stream of events.

A method is a generator that yields where it needs a model; in a round every model runs once, for all columns that wait for it. Knows
nothing of the screen or the database.
"""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from rgtg.errors import BadReward, RgtgError, Stopped, is_out_of_memory
from rgtg.guidance.methods import method, row_prompts
from rgtg.guidance.mixes.standards import Measured, measured
from rgtg.guidance.proposals import propose
from rgtg.guidance.requests import Proposal, Propose, Read, Score
from rgtg.guidance.rows import Draft, Follower, GivenUp, Rows
from rgtg.guidance.spot_check import SpotCheck, record_of
from rgtg.guidance.steps import Cost, Ended, Event, Standardised, Working, cost_of, step_of, tried_of
from rgtg.models.lm import BaseLM
from rgtg.models.tuning import use_threads
from rgtg.prompts import TextStream
from rgtg.records import Run, Step, Tried
from rgtg.rewards.base import Opening, RewardPrefixes, SlotRewards, not_finite
from rgtg.rewards.combine import mixed, weighted_sum
from rgtg.runs import Models, make_run, opening
from rgtg.system.room import next_to_begin
from rgtg.system.stopping import check_stopped, stoppable

__all__ = ["Cost", "Ended", "Event", "Models", "Standardised", "Working", "generate", "make_run", "opening"]
logger = logging.getLogger(__name__)
LM = ""  # key of the base LM among the models; no reward model has this name


class _Column:
    """A run in progress: its method, its rows, the request it waits for, its cost so far."""

    def __init__(self, run: Run, rows: Rows, slots: Mapping[str, Sequence[int]], lm: BaseLM):
        """`slots`: the slots of its rows in each model's batch; for an observer the slot of the one text it reads."""
        self.run, self.rows, self.slots, self.lm = run, rows, slots, lm
        self.guides = {ref.name: weight for ref, weight in run.guides}
        self.watched = [ref.name for ref in run.models]
        self.rule = method(run.method).make(run.params)
        self.text = TextStream(lm.loaded.tokenizer, run.prompt_ids, lm.loaded.silent_ids)
        for token in run.forced_ids[:-1]:
            self.text.push(token)
        self.cost: Counter[str] = Counter()
        self.num_shown, self.error, self.ended, self.started = 0, "", False, 0.0
        self.notes: list[str] = []  # which caches were found wrong
        self.has_unread = False  # whether an observer returned no rewards for new tokens: they are not waited for any longer
        self.request: Propose | Score | Read | None = None
        self.proposals: list[Proposal | None] | None = None  # of a request whose rewards are still to come
        self.rewards: dict[str, dict[int, SlotRewards]] = {}  # of the current request, by guide and slot
        self.generator = self.rule.generate(rows)

    def resume(self, answer: object = None) -> None:
        """Send the method an answer and take its next request. An RgtgError ends this column alone."""
        self.proposals, self.rewards = None, {}
        try:
            self.request = self.generator.send(answer)
            if isinstance(self.request, Propose) and self.request.guide is not None:
                self.proposals = self.rows.every_token(self.lm.loaded.num_tokens)
        except StopIteration:
            self.request = None
        except RgtgError as error:
            self.fail(error)

    def charge(self, samples: Measured) -> None:
        """Account for the base samples that its rewards are standardised by."""
        self.cost += Counter({LM: samples.lm_forwards, next(iter(self.guides), LM): samples.reward_forwards})
        self.notes += samples.notes
        if samples.error:
            self.fail(samples.error)

    def fail(self, error: RgtgError) -> None:
        self.error = str(error)
        self.stop()

    def stop(self) -> None:
        """End the method; the text of the first row so far is kept."""
        self.request = self.proposals = None
        self.generator.close()
        self.rows.stop()

    def waits_for(self, name: str) -> bool:
        scoring = isinstance(self.request, Score) or self.proposals is not None
        return scoring and name in self.asked and name not in self.rewards

    @property
    def asked(self) -> list[str]:
        """Guides that the current request asks."""
        return list(self.guides) if (only := getattr(self.request, "guide", None)) is None else [list(self.guides)[only]]

    def asks_lm(self) -> list[int]:
        """Rows that wait for candidates of the base LM."""
        return self.rows.active if isinstance(self.request, Propose) and self.request.guide is None else []

    def asks(self, name: str) -> dict[int, Sequence[int]]:
        """Slots to be scored by a reward model, each with its candidates; () for the current prefix alone."""
        slots = self.slots.get(name, ())
        if self.waits_for(name):
            if self.proposals is None:
                return dict.fromkeys(slots[: len(self.rows.drafts)], ())
            return {slots[row]: proposal.ids for row, proposal in self._to_score()}
        reads = name not in self.guides or (self.request is None and not self.rows.stopped)
        unread = reads and not self.rows.stopped and any(name not in draft.rewards for draft in self.rows.settled[self.num_shown :])
        return {slots[0]: ()} if slots and unread else {}

    def receive_lm(self, of_active: Sequence[Proposal]) -> None:
        """Take the proposals for the rows of `asks_lm`, in their order."""
        proposals: list[Proposal | None] = [None] * len(self.rows.drafts)
        for row, proposal in zip(self.rows.active, of_active, strict=True):
            proposals[row] = proposal
        assert isinstance(self.request, Propose)
        self.proposals = proposals
        if not (self.request.rewards and self._to_score()):
            self.resume(proposals)

    def _to_score(self) -> list[tuple[int, Proposal]]:
        """Rows with the proposals whose candidates need their rewards."""
        wanted = getattr(self.request, "only_if", None)
        return [(row, p) for row, p in enumerate(self.proposals or ()) if p is not None and (wanted is None or wanted(p))]

    def receive(self, name: str, answers: Mapping[int, SlotRewards]) -> None:
        """Take a reward model's rewards of the slots in `asks`."""
        for slot, answer in answers.items():
            self.has_unread |= not answer.new and not self.waits_for(name)
            drafts = self.rows.drafts[self.slots[name].index(slot)] if name in self.guides else self.rows.settled
            for draft, reward in zip(reversed(drafts), reversed(answer.new), strict=False):
                draft.rewards[name] = reward
            if not all(map(math.isfinite, answer.new)) or not torch.as_tensor(answer.candidates).isfinite().all():
                self.fail(not_finite(name, f"at token {self.rows.num_settled + self.rows.num_given + 1}"))
                return
        if self.waits_for(name):
            self.rewards[name] = dict(answers)
            if len(self.rewards) == len(self.asked):
                self._resume_with_rewards()

    def _resume_with_rewards(self) -> None:
        by_guide = [(name, self.rewards[name]) for name in self.asked]
        if self.proposals is None:
            rows = [[rewards[slot].reward for slot in self.slots[name][: len(self.rows.drafts)]] for name, rewards in by_guide]
            if not all(math.isfinite(reward) for row in rows for reward in row):
                self.fail(not_finite(next(iter(self.guides)), "at the end of an answer"))
            else:
                self.resume(self._mixed(torch.tensor(rows, dtype=torch.float64).unbind(), self.rows.lengths).tolist())
            return
        for row, proposal in self._to_score():
            proposal.components = {name: rewards[self.slots[name][row]].candidates for name, rewards in by_guide}
            proposal.rewards = self._mixed([torch.as_tensor(rewards) for rewards in proposal.components.values()], self.rows.num_tokens(row) + 1)
        self.resume(self.proposals)

    def _mixed(self, rewards: Sequence[Tensor], num_tokens: Sequence[int] | int) -> Tensor:
        """The rewards of the guides that were asked, combined; a guide that is asked alone has its weight."""
        if len(rewards) == len(self.guides):
            return mixed(self.run, rewards, num_tokens)
        return weighted_sum(rewards, [self.guides[name] for name in self.asked])

    def events(self) -> Iterator[Step | Working]:
        """New steps that all reward models have scored, then a note while newer tokens may still be discarded."""
        closing = self.rows.stopped or self.has_unread
        while self.num_shown < len(self.rows.settled):
            draft = self.rows.settled[self.num_shown]
            if not closing and not all(name in draft.rewards for name in self.watched):
                break
            yield self._step(draft, self.rows.given_up.get(self.num_shown, ()))
            self.num_shown += 1
        longest = max(map(len, self.rows.drafts))
        if self.request is not None and longest > len(self.rows.settled):
            several = len(self.rows.drafts) > 1
            yield Working(f"{len(self.rows.drafts)} answers, token {longest}" if several else f"on trial: token {longest}")

    @property
    def is_done(self) -> bool:
        return self.request is None and self.num_shown == len(self.rows.settled)

    def _step(self, draft: Draft, given_up: Sequence[GivenUp]) -> Step:
        text = self.text.push(draft.token_id) + (self.text.finish() if draft.is_last else "")
        position, tried = self.rows.num_given + self.num_shown, tuple[Tried, ...]()
        if given_up:
            before = (*self.run.prompt_ids, *self.run.forced_ids[:-1], *(draft.token_id for draft in self.rows.settled[: self.num_shown]))
            tried = tuple(tried_of(one, before, self.lm.loaded.tokenizer, self.lm.loaded.closing) for one in given_up)
        return step_of(draft, position, text, self.lm.token_texts.text, self.rows.temperature, self.watched, self.rule.rescores, tried)

    def end(self, check_forwards: int, cost: Cost) -> Ended:
        reason = "error" if self.error else self.rows.stop_reason
        return Ended(reason, self.error, time.perf_counter() - self.started, " ".join(self.notes), check_forwards, **vars(cost))


class _Round:
    """The batches of all models and the columns they serve. Construction and each round may raise `Stopped`, before a forward."""

    def __init__(self, runs: Sequence[Run], models: Models):
        self.models, lm = models, models.base_lm
        self.columns: list[_Column] = []
        longest, widest = (max(getattr(run.generation, name) for run in runs) for name in ("max_new_tokens", "top_k"))
        rules = [method(run.method).make(run.params) for run in runs]
        guides = dict.fromkeys(ref.name for run in runs for ref, _ in run.guides)  # guides first: the next token depends on them
        names = [LM, *(guides | dict.fromkeys(ref.name for run in runs for ref in run.observers))]
        readers = {name: models.reader(name) for name in names[1:]}
        self.hosts = {name: LM if name in readers and readers[name].shares_rows else name for name in names}  # whose rows and forwards a model uses
        openings: dict[str, list[Opening]] = {name: [] for name in names}
        given: dict[str, list[Sequence[int]]] = {name: [] for name in names}
        slots: list[dict[str, range]] = [{} for _ in runs]
        for run, rule, own in zip(runs, rules, slots, strict=True):
            wanted = [(LM, rule.num_rows), *((ref.name, rule.num_rows) for ref, _ in run.guides), *((ref.name, 1) for ref in run.observers)]
            for name, num_rows in wanted:
                if self.hosts[name] != name:
                    own[name] = own[LM][:num_rows]
                    continue
                own[name] = range(len(openings[name]), len(openings[name]) + num_rows)
                of_lm = [Opening(run.prompt, ids) for ids in row_prompts(run, lm.loaded.encode_prompt)] if name == LM else []
                openings[name] += of_lm or [opening(run)] * num_rows
                given[name] += [run.forced_ids[:-1]] * num_rows
        check_stopped()
        self.lm = models.base_lm.start([of_slot.ids for of_slot in openings[LM]], given[LM], longest + 2)
        self.batches: dict[str, RewardPrefixes] = {}
        for name in names[1:]:
            check_stopped()
            shares, start = self.hosts[name] == LM, partial(readers[name].start, openings[name], given[name], longest + 2 * widest)
            self.batches[name] = readers[name].over(self.lm) if shares else start()
        checked = {name: (models.reward_model(name), batch) for name, batch in self.batches.items() if self.hosts[name] == name} | {
            LM: (models.base_lm, self.lm)
        }
        self.checks = {name: SpotCheck(model.name, batch, record_of(model), partial(self._note, name)) for name, (model, batch) in checked.items()}
        for run, rule, own in zip(runs, rules, slots, strict=True):
            followers: list[tuple[Follower, Sequence[int]]] = [
                (self.lm, own[LM]),
                *((self.batches[ref.name], own[ref.name]) for ref, _ in run.guides),
            ]
            observers = [(self.batches[ref.name], own[ref.name][0]) for ref in run.observers]
            column = _Column(run, Rows(run, rule.num_rows, followers, observers, models.base_lm.loaded.eos_ids), own, models.base_lm)
            for name, (_, prefixes) in checked.items():
                if any(cache.is_fed(slot) for cache in prefixes.caches for slot in own.get(name, ())):
                    column.cost[name] = prefixes.num_forwards  # equal prompts were encoded at the start
            self.columns.append(column)
        for check in self.checks.values():
            check.begin()
        for column in self.columns:
            if not column.rows.stopped:
                column.resume()

    def advance(self, alive: Sequence[_Column]) -> None:
        """Run the LM once and each reward model once, and a reward model again for columns that cannot continue without it."""
        self._serve_lm(alive)
        for name in self.batches:
            self._serve(name, alive)
        while again := [name for name in self.batches if any(column.waits_for(name) for column in alive)]:
            for name in again:
                self._serve(name, alive)

    def check_last(self, column: _Column) -> None:
        """Spot check at the end of a comparison, on the answer of its last column."""
        for name, slots in self._hosts_of(column):
            self.checks[name].holds(slots[0])

    def end(self, column: _Column) -> Ended:
        column.ended = True
        column.notes += [remark for name in column.slots.keys() - {LM} if (remark := self.batches[name].remark) not in ("", *column.notes)]
        checks = sum(self.checks[name].num_forwards[slot] for name, slots in self._hosts_of(column) for slot in slots)
        return column.end(checks, self.cost(column))

    def cost(self, column: _Column) -> Cost:
        positions = {name: sum(cache.positions_of(own) for cache in self.checks[name].batch.caches) for name, own in self._hosts_of(column)}
        return cost_of(column.run, column.cost, positions, LM)

    def _hosts_of(self, column: _Column) -> list[tuple[str, Sequence[int]]]:
        """The models that read a column in rows of their own, each with the column's slots."""
        return [(name, slots) for name, slots in column.slots.items() if self.hosts[name] == name]

    def _note(self, name: str, text: str) -> None:
        for column in self.columns:
            if name in column.slots and not column.ended:
                column.notes.append(text)

    def _serve(self, name: str, alive: Sequence[_Column]) -> None:
        asking = [(column, asks) for column in alive if (asks := column.asks(name))]
        if not asking:
            return
        try:
            answers = self._answers(name, asking)
        except Stopped:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            logger.exception("reward model `%s` failed", name)
            failure = (
                error
                if isinstance(error, RgtgError)
                else BadReward(f"Reward model `{name}` failed.", "The traceback is in the log.", "Choose another reward model.")
            )
            for column, _ in asking:
                column.fail(failure)
            return
        for column, asks in asking:
            column.receive(name, {slot: answers[slot] for slot in asks})

    def _answers(self, name: str, asking: "Sequence[tuple[_Column, Mapping[int, Sequence[int]]]]") -> dict[int, SlotRewards]:
        """Rewards of the slots that columns ask a reward model for, and what each column pays."""
        batch, host, answers = self.batches[name], self.hosts[name], dict[int, SlotRewards]()
        for part in batch.in_parts({slot: ids for _, asks in asking for slot, ids in asks.items()}):
            check_stopped()
            before, unread = batch.num_forwards, batch.unread(part).keys()
            answers |= self.checks[host].served(partial(batch.forward, part), list(part))
            for column, asks in asking:
                column.cost[host] += (batch.num_forwards - before) * (not unread.isdisjoint(asks))
        return answers

    def _read(self, column: _Column, num_tokens: int) -> None:
        """Let the base LM read what another model wrote in a column."""
        check_stopped()
        before, asks = self.lm.num_forwards, dict.fromkeys(column.slots[LM][: len(column.rows.drafts)], num_tokens)
        column.rows.take_read(self.checks[LM].served(partial(self.lm.logits_before, asks), list(asks)).values())
        column.cost[LM] += self.lm.num_forwards - before
        column.resume()

    def _serve_lm(self, alive: Sequence[_Column]) -> None:
        for column in alive:
            if isinstance(column.request, Read):
                self._read(column, column.request.num_tokens)
        asking = [(column, rows) for column in alive if (rows := column.asks_lm())]
        if not asking:
            return
        check_stopped()
        before = self.lm.num_forwards
        waiting = [bool(self.lm.unread([column.slots[LM][row] for row in rows])) for column, rows in asking]
        slots = [column.slots[LM][row] for column, rows in asking for row in rows]
        log_probs = self.checks[LM].served(partial(self.lm.forward, slots), slots).log_softmax(-1)  # (rows, vocabulary)
        wanted = [(column.request, column.run.generation, len(rows)) for column, rows in asking if isinstance(column.request, Propose)]
        num_forwards, proposed = self.lm.num_forwards - before, propose(log_probs, wanted, asking[0][0].lm.loaded.num_tokens)
        for (column, _), unread, proposals in zip(asking, waiting, proposed, strict=True):
            column.cost[LM] += num_forwards * unread
            if proposals is None:
                column.fail(BadReward(f"Base LM `{column.lm.name}` returned probabilities that are NaN.", "", "Its weights may be damaged."))
            else:
                column.receive_lm(proposals)


@torch.inference_mode()
def generate(
    runs: Sequence[Run], models: Models, stop: Callable[[], bool] = lambda: False, at_once: int | None = None
) -> Generator[tuple[int, Event], None, None]:
    """Run all columns together, on one prompt or several, and yield (column index, Step | Cost | Working | Ended), `Ended` last for each of them.

    With `at_once` so many answers grow at a time; where some have ended, the next columns begin. A column whose reward model returns NaN or
    fails, or whose method fails, ends with stop_reason "error" and its message; the others continue. `stop` is called before each forward (large ones
    are split): once it returns True no model runs any more; of several answers the first is kept.
    """
    started = time.perf_counter()
    try:
        with stoppable(stop):
            of_samples = [measured(run, models.base_lm, models.reward_model, partial(generate, models=models, stop=stop)) for run in runs]
            models_at_work = _Round([one.run for one in of_samples], models)
    except Stopped:
        yield from ((number, Ended("stopped", seconds=time.perf_counter() - started)) for number in range(len(runs)))
        return
    waiting, alive = dict(enumerate(models_at_work.columns)), dict[int, _Column]()
    for number, one in enumerate(of_samples):
        waiting[number].charge(one)
        yield from ((number, Standardised(one.run)) for _ in one.notes)
    while alive or waiting:
        use_threads(models.num_threads)  # each thread has its own, and the next round may run in another
        sizes, busy = ({n: column.rows.num_rows for n, column in columns.items()} for columns in (waiting, alive))
        stopped, fresh = False, {n: waiting.pop(n) for n in next_to_begin(sizes, sum(busy.values()), at_once)}
        for column in fresh.values():
            column.started = started
        try:
            with stoppable(stop):
                if alive and fresh:  # else the others would be padded to the length of their prompts
                    models_at_work.advance(list(fresh.values()))
                alive |= fresh
                models_at_work.advance(list(alive.values()))
        except Stopped:
            stopped, alive, waiting = True, alive | fresh | waiting, dict[int, _Column]()
            for column in alive.values():
                column.stop()
        for number, column in list(alive.items()):
            yield from ((number, event) for event in column.events())
            if not column.is_done:
                yield number, models_at_work.cost(column)
            else:
                if len(alive) == 1 and not waiting and not stopped and not column.error:
                    models_at_work.check_last(column)
                yield number, models_at_work.end(column)
                del alive[number]
        started = time.perf_counter()  # of the columns that begin next
