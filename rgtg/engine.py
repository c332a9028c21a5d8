"""The decoding engine: all columns of a comparison advance together and yield a stream of events.

A method is a generator that yields where it needs a model; in a round every model runs once, for all columns that wait for it. Works on
token ids and growing prefixes. Knows nothing of the screen or the database.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version

import torch

from rgtg import __version__
from rgtg.config import GenerationConfig
from rgtg.errors import BadReward, BadSettings, RgtgError, Stopped
from rgtg.guidance.methods import method, row_prompts
from rgtg.guidance.proposals import propose
from rgtg.guidance.requests import Proposal, Propose, Read, Score
from rgtg.guidance.rows import Draft, Follower, GivenUp, Rows
from rgtg.guidance.spot_check import SpotCheck, record_of
from rgtg.guidance.steps import Ended, Event, Working, step_of
from rgtg.models.lm import BaseLM
from rgtg.models.loading import check_same_tokens
from rgtg.models.tuning import use_threads
from rgtg.prompts import TextStream, check_fits, pieces
from rgtg.records import Params, Run, Step, Tried
from rgtg.rewards.base import RewardModel, RewardPrefixes, SlotRewards, TranslatedEnd, check_guides, not_finite
from rgtg.rewards.combine import combine
from rgtg.system.stopping import check_stopped, stoppable

VERSIONS = (("rgtg", __version__), ("torch", torch.__version__), ("transformers", version("transformers")))
LM = ""  # key of the base LM among the models; no reward model has this name
Guides = str | Sequence[tuple[str, float]] | None


@dataclass(frozen=True, eq=False)
class Models:
    """Loaded models of a comparison: one base LM and the reward models by name."""

    base_lm: BaseLM
    reward_models: Mapping[str, RewardModel] = field(default_factory=dict)
    num_threads: int = 0  # the measured optimum for these models; 0 leaves the number to torch

    def reward_model(self, name: str) -> RewardModel:
        if name not in self.reward_models:
            raise BadSettings(f"There is no reward model `{name}`.", f"Loaded: {', '.join(self.reward_models) or 'none'}.")
        return self.reward_models[name]


def make_run(
    prompt: str,
    method_name: str,
    models: Models,
    params: Params = (),
    guides: Guides = None,
    observers: Sequence[str] = (),
    generation: GenerationConfig = GenerationConfig(),
    seed: int = 0,
    forced_ids: Sequence[int] = (),
    combining: str = "sum",
    prompt_ids: Sequence[int] | None = None,
) -> Run:
    """Run record, checked as far as possible before the first forward. Raises RgtgError.

    `guides` are names of reward models with their weights; a name alone has weight 1. `prompt_ids` replace the encoded prompt for the base LM.
    """
    chosen = method(method_name)
    rule, lm = chosen.make(params), models.base_lm
    combine(combining)
    mix = [(guides, 1.0)] if isinstance(guides, str) else guides or []
    guiding = [(models.reward_model(name), float(weight)) for name, weight in mix] if rule.uses_reward else []
    if rule.uses_reward and not guiding:
        raise BadSettings(f"Method `{method_name}` needs a reward model.", "None was given.", f"Add `{chosen.model_setting}=NAME`.")
    check_guides(guiding, [role.language_model for role in chosen.roles], rule.reads_vocabulary)
    names = [guide.name for guide, _ in guiding]
    observing = [model for model in map(models.reward_model, dict.fromkeys(observers)) if model.name not in names]
    prompt_ids = lm.loaded.encode_prompt(prompt) if prompt_ids is None else tuple(prompt_ids)
    check_fits(len(prompt_ids), generation.max_new_tokens, lm.name, lm.context)
    # defaults are stored too: another default in a later version must not change an old run
    values = tuple((p.name, getattr(rule, p.name)) for p in chosen.parameters)
    run = Run(
        prompt, method_name, lm.loaded.ref, values, tuple((guide.loaded.ref, weight) for guide, weight in guiding), combining,
        tuple(m.loaded.ref for m in observing), generation, seed, prompt_ids, tuple(forced_ids),
        VERSIONS,
    )  # fmt: skip
    for ids in row_prompts(run, lm.loaded.encode_prompt)[1:]:
        check_fits(len(ids), generation.max_new_tokens, lm.name, lm.context)
    for model in (*(guide for guide, _ in guiding), *observing):
        check_same_tokens(model.loaded, lm.loaded)
        check_fits(len(read_prompt(model, run, lm)), generation.max_new_tokens, model.name, model.context)
    return run


def read_prompt(model: RewardModel, run: Run, lm: BaseLM) -> tuple[int, ...]:
    """Prompt ids of a run for a reward model: in the template of its card, or the run's own ids if the base LM has the same template."""
    return run.prompt_ids if model.loaded.template == lm.loaded.template else model.loaded.encode_prompt(run.prompt)


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
        self.num_shown, self.error, self.ended = 0, "", False
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

    def fail(self, error: RgtgError) -> None:
        self.error = str(error)
        self.stop()

    def stop(self) -> None:
        """End the method; the text of the first row so far is kept."""
        self.request = self.proposals = None
        self.generator.close()
        self.rows.stop()

    # --- requests and answers -----------------------------------------------------------------------------------------

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
        mix, weights = combine(self.run.combine), [self.guides[name] for name in self.asked]
        by_guide = [(name, self.rewards[name]) for name in self.asked]
        if self.proposals is None:
            rows = [[rewards[slot].reward for slot in self.slots[name][: len(self.rows.drafts)]] for name, rewards in by_guide]
            if not all(math.isfinite(reward) for row in rows for reward in row):
                self.fail(not_finite(next(iter(self.guides)), "at the end of an answer"))
            else:
                self.resume(mix(torch.tensor(rows, dtype=torch.float64).unbind(), weights).tolist())
            return
        for row, proposal in self._to_score():
            proposal.components = {name: rewards[self.slots[name][row]].candidates for name, rewards in by_guide}
            proposal.rewards = mix([torch.as_tensor(rewards) for rewards in proposal.components.values()], weights)
        self.resume(self.proposals)

    # --- events -------------------------------------------------------------------------------------------------------

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
        position, tried = self.rows.num_given + self.num_shown, tuple(map(self._tried, given_up))
        return step_of(draft, position, text, self.lm.token_texts.text, self.rows.temperature, self.watched, self.rule.rescores, tried)

    def _tried(self, given_up: GivenUp) -> Tried:
        ids = tuple(draft.token_id for draft in given_up.drafts)
        before = (*self.run.prompt_ids, *self.run.forced_ids[:-1], *(draft.token_id for draft in self.rows.settled[: self.num_shown]))
        text = "".join(pieces(self.lm.loaded.tokenizer, before, ids, self.lm.loaded.closing))
        return Tried(text, ids, given_up.reward, given_up.threshold, given_up.weight)

    def end(self, started: float, check_forwards: int) -> Ended:
        reason = "error" if self.error else self.rows.stop_reason
        lm_forwards = self.cost.pop(LM, 0)
        seconds = time.perf_counter() - started
        return Ended(reason, self.error, lm_forwards, self.cost.total(), seconds, " ".join(self.notes), check_forwards)


class _Round:
    """The batches of all models and the columns they serve. Construction and each round may raise `Stopped`, before a forward."""

    def __init__(self, runs: Sequence[Run], models: Models):
        self.models, lm = models, models.base_lm
        self.columns: list[_Column] = []
        longest, widest = (max(getattr(run.generation, name) for run in runs) for name in ("max_new_tokens", "top_k"))
        rules = [method(run.method).make(run.params) for run in runs]
        guides = dict.fromkeys(ref.name for run in runs for ref, _ in run.guides)  # guides first: the next token depends on them
        names = [LM, *(guides | dict.fromkeys(ref.name for run in runs for ref in run.observers))]
        prompts: dict[str, list[Sequence[int]]] = {name: [] for name in names}
        given: dict[str, list[Sequence[int]]] = {name: [] for name in names}
        slots: list[dict[str, range]] = [{} for _ in runs]
        for run, rule, own in zip(runs, rules, slots, strict=True):
            wanted = [(LM, rule.num_rows), *((ref.name, rule.num_rows) for ref, _ in run.guides), *((ref.name, 1) for ref in run.observers)]
            for name, num_rows in wanted:
                own[name] = range(len(prompts[name]), len(prompts[name]) + num_rows)
                reads = row_prompts(run, lm.loaded.encode_prompt) if name == LM else [read_prompt(models.reward_model(name), run, lm)] * num_rows
                prompts[name] += reads
                given[name] += [run.forced_ids[:-1]] * num_rows
        check_stopped()
        self.lm = models.base_lm.start(prompts[LM], given[LM], longest + 2)
        self.batches: dict[str, RewardPrefixes] = {}
        for name in names[1:]:
            check_stopped()
            batch = (model := models.reward_model(name)).start(prompts[name], given[name], longest + 2 * widest)
            self.batches[name] = TranslatedEnd(batch, ends) if (ends := model.loaded.end_ids(models.base_lm.loaded)) else batch
        checked = {name: (models.reward_model(name), batch) for name, batch in self.batches.items()} | {LM: (models.base_lm, self.lm)}
        self.checks = {name: SpotCheck(model.name, batch, record_of(model), partial(self._note, name)) for name, (model, batch) in checked.items()}
        for run, rule, own in zip(runs, rules, slots, strict=True):
            followers: list[tuple[Follower, Sequence[int]]] = [
                (self.lm, own[LM]),
                *((self.batches[ref.name], own[ref.name]) for ref, _ in run.guides),
            ]
            observers = [(self.batches[ref.name], own[ref.name][0]) for ref in run.observers]
            column = _Column(run, Rows(run, rule.num_rows, followers, observers, models.base_lm.loaded.eos_ids), own, models.base_lm)
            for name in own.keys() - {LM}:
                column.cost[name] = self.batches[name].num_forwards  # equal prompts were encoded at the start
            column.cost[LM] = self.lm.num_forwards
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
        for name, slots in column.slots.items():
            self.checks[name].holds(slots[0])

    def end(self, column: _Column, started: float) -> Ended:
        column.ended = True
        return column.end(started, sum(self.checks[name].num_forwards[slot] for name, slots in column.slots.items() for slot in slots))

    def _note(self, name: str, text: str) -> None:
        for column in self.columns:
            if name in column.slots and not column.ended:
                column.notes.append(text)

    def _serve(self, name: str, alive: Sequence[_Column]) -> None:
        asking = [(column, asks) for column in alive if (asks := column.asks(name))]
        if not asking:
            return
        batch, answers = self.batches[name], dict[int, SlotRewards]()
        for part in batch.in_parts({slot: ids for _, asks in asking for slot, ids in asks.items()}):
            check_stopped()
            before = batch.num_forwards
            answers |= self.checks[name].served(partial(batch.forward, part), list(part))
            for column, _ in asking:
                column.cost[name] += batch.num_forwards - before
        for column, asks in asking:
            column.receive(name, {slot: answers[slot] for slot in asks})

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
        slots = [column.slots[LM][row] for column, rows in asking for row in rows]
        log_probs = self.checks[LM].served(partial(self.lm.forward, slots), slots).log_softmax(-1)  # (rows, vocabulary)
        wanted = [(column.request, column.run.generation, len(rows)) for column, rows in asking if isinstance(column.request, Propose)]
        for (column, _), proposals in zip(asking, propose(log_probs, wanted, asking[0][0].lm.loaded.num_tokens), strict=True):
            column.cost[LM] += self.lm.num_forwards - before
            if proposals is None:
                column.fail(BadReward(f"Base LM `{column.lm.name}` returned probabilities that are NaN.", "", "Its weights may be damaged."))
            else:
                column.receive_lm(proposals)


@torch.inference_mode()
def generate(runs: Sequence[Run], models: Models, stop: Callable[[], bool] = lambda: False) -> Generator[tuple[int, Event], None, None]:
    """Run all columns together and yield (column index, Step | Working | Ended); the last event of every column is `Ended`.

    A column whose reward model returns NaN, or whose method fails, ends with stop_reason "error" and its message; the others continue. `stop`
    is called before each forward (large ones are split): once it returns True no model runs any more; of several answers the first is kept.
    """
    started = time.perf_counter()
    try:
        with stoppable(stop):
            models_at_work = _Round(runs, models)
    except Stopped:
        yield from ((number, Ended("stopped", seconds=time.perf_counter() - started)) for number in range(len(runs)))
        return
    alive = dict(enumerate(models_at_work.columns))
    while alive:
        use_threads(models.num_threads)  # each thread has its own, and the next round may run in another
        stopped = False
        try:
            with stoppable(stop):
                models_at_work.advance(list(alive.values()))
        except Stopped:
            stopped = True
            for column in alive.values():
                column.stop()
        for number, column in list(alive.items()):
            yield from ((number, event) for event in column.events())
            if column.is_done:
                if len(alive) == 1 and not stopped and not column.error:
                    models_at_work.check_last(column)
                yield number, models_at_work.end(column, started)
                del alive[number]
