"""Token-by-token generation under guidance: all columns advance together and their steps come as a stream.

In each round one LM forward serves every column, and one forward of each distinct reward model all that it guides or
observes. Works on token ids and growing prefixes. Knows nothing of the screen or the database.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version

import torch
from torch import Tensor

from rgtg import __version__
from rgtg.config import GenerationConfig
from rgtg.errors import BadReward, BadSettings, ModelRefused, RgtgError
from rgtg.guidance.methods import method
from rgtg.guidance.noise import derived_seed
from rgtg.guidance.rules import Base, BestOfN, TokenRule
from rgtg.models.lm import BaseLM
from rgtg.models.loading import check_same_tokens
from rgtg.prompts import TextStream, check_fits
from rgtg.records import Candidate, Params, Run, Step
from rgtg.rewards.base import RewardModel


@dataclass(frozen=True)
class Ended:
    """The last event of a column. Forwards are those it took part in; seconds count from the start of `generate`."""

    stop_reason: str
    error: str = ""
    lm_forwards: int = 0
    reward_forwards: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Working:
    """A column is at work and has no final token yet: "4 answers, token 12"."""

    note: str


Event = Step | Ended | Working


@dataclass(frozen=True, eq=False)
class Models:
    """What a comparison runs on: one base LM and the reward models by name."""

    base_lm: BaseLM
    reward_models: Mapping[str, RewardModel] = field(default_factory=dict)

    def reward_model(self, name: str) -> RewardModel:
        if name not in self.reward_models:
            raise BadSettings(f"There is no reward model `{name}` here.", f"Loaded: {', '.join(self.reward_models) or 'none'}.")
        return self.reward_models[name]


def make_run(
    prompt: str,
    method_name: str,
    models: Models,
    params: Params = (),
    reward_model: str | None = None,
    observers: Sequence[str] = (),
    generation: GenerationConfig = GenerationConfig(),
    seed: int = 0,
    forced_ids: Sequence[int] = (),
) -> Run:
    """A run with everything checked that can be checked before the first forward; raises RgtgError with what to do."""
    chosen = method(method_name)
    rule, lm = chosen.make(params), models.base_lm
    guide = None
    if rule.uses_reward:
        if reward_model is None:
            raise BadSettings(f"Method `{method_name}` needs a reward model.", "None was given.", "Add `reward_model=NAME`.")
        guide = models.reward_model(reward_model)
        if not guide.guides:
            raise ModelRefused(f"`{reward_model}` is a judge: it observes and never guides.", "", "Choose another reward model.")
    watching = [models.reward_model(name) for name in dict.fromkeys(observers) if guide is None or name != guide.name]
    prompt_ids = lm.loaded.encode_prompt(prompt)
    check_fits(len(prompt_ids), generation.max_new_tokens, lm.name, lm.context)
    # every parameter is written down, defaults too: a later default changes no old run
    values = tuple((p.name, getattr(rule, p.name)) for p in chosen.parameters)
    run = Run(
        prompt, method_name, lm.loaded.ref, values, guide.loaded.ref if guide else None, tuple(m.loaded.ref for m in watching), generation,
        seed, prompt_ids, tuple(forced_ids), (("rgtg", __version__), ("torch", torch.__version__), ("transformers", version("transformers"))),
    )  # fmt: skip
    for model in (*([guide] if guide else ()), *watching):
        check_same_tokens(model.loaded, lm.loaded)
        check_fits(len(read_prompt(model, run, lm)), generation.max_new_tokens, model.name, model.context)
    return run


def read_prompt(model: RewardModel, run: Run, lm: BaseLM) -> tuple[int, ...]:
    """The prompt of a run as a reward model reads it: in the template of its card; the run's own ids where the base LM's is the same."""
    return run.prompt_ids if model.loaded.template == lm.loaded.template else model.loaded.encode_prompt(run.prompt)


@dataclass
class _Row:
    """One response that grows: its luck, its text, its last candidates."""

    seed: int
    text: TextStream
    token_ids: list[int]
    candidate_ids: Tensor | None = None  # (k,)
    log_probs: Tensor | None = None  # (k,)
    forced: int | None = None  # the token that a branch begins with
    steps: list[Step] = field(default_factory=list)
    active: bool = True


class _Column:
    """A run on its way: `rows` are its places in the batch of the LM."""

    def __init__(self, run: Run, first_row: int, lm: BaseLM):
        self.run, self.lm = run, lm
        self.rule = method(run.method).make(run.params)
        self.config = run.generation
        self.many = isinstance(self.rule, BestOfN)
        self.token_rule: TokenRule = Base() if self.many else self.rule
        self.guide = run.reward_model.name if run.reward_model and not self.many else None
        self.watching = [] if self.many else [o.name for o in run.observers]
        self.start = (*run.prompt_ids, *run.forced_ids[:-1])
        self.rows = []
        for j in range(self.rule.num_rows):
            text = TextStream(lm.loaded.tokenizer, run.prompt_ids, lm.loaded.eos_ids)
            for token in run.forced_ids[:-1]:
                text.push(token)
            self.rows.append(_Row(derived_seed(run.seed, j), text, list(run.forced_ids[:-1]), forced=run.forced_ids[-1] if run.forced_ids else None))
        self.first_row = first_row
        self.lm_forwards = 0
        self.forwards: dict[str, int] = {}  # of each reward model, in which it took part
        self.ended = False

    def propose(self, log_probs: Tensor, ids: Tensor) -> None:
        """Candidates of each active row from its most probable tokens: (rows, k) -> the run's own top-k and top-p."""
        for j, row in enumerate(self.rows):
            if row.active:
                row.log_probs, row.candidate_ids = self._truncate(log_probs[j], ids[j])

    def _truncate(self, log_probs: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        log_probs, ids = log_probs[: self.config.top_k], ids[: self.config.top_k]
        if float(log_probs[-1]) == -math.inf:  # what the model itself rules out is no candidate
            log_probs, ids = log_probs[log_probs.isfinite()], ids[log_probs.isfinite()]
        if self.config.top_p < 1:
            mass = (log_probs / (self.config.temperature or 1.0)).softmax(0).cumsum(0)
            k = int((mass < self.config.top_p).sum()) + 1  # the token that crosses belongs to it
            log_probs, ids = log_probs[:k], ids[:k]
        return log_probs, ids

    def select(self, row: _Row, rewards: Tensor | None) -> int:
        """The index of the token to take among the row's candidates; keeps the step but for what observers say of it."""
        scores = self.token_rule.rescore(row.log_probs, rewards)
        if not all(map(math.isfinite, scores.tolist())):
            raise BadReward(
                f"Method `{self.run.method}` gave a score that is not finite.",
                f"Scores: {[round(s, 3) for s in scores.tolist()]}.",
                "Lower the weight.",
            )
        position = len(row.token_ids)
        index = self.token_rule.pick_index(scores, self.config.temperature, row.seed, position, row.candidate_ids)
        if row.forced is not None:
            index, row.forced = self._forced_index(row), None
        row.steps.append(self._step(row, position, index, scores, rewards))
        return index

    def _forced_index(self, row: _Row) -> int:
        found = (row.candidate_ids == row.forced).nonzero()
        if not len(found):
            shown = self.lm.token_texts.text(row.forced)
            raise BadSettings(
                f"The branch cannot begin with {shown!r}.", "It is not among the candidates of this step.", "Branch from a token in the table."
            )
        return int(found[0, 0])

    def _step(self, row: _Row, position: int, index: int, scores: Tensor, rewards: Tensor | None) -> Step:
        # ten numbers: plain Python is faster here than a tensor operation each
        log_probs, ids, values = row.log_probs.tolist(), row.candidate_ids.tolist(), scores.tolist()
        temperature = self.config.temperature
        greedy = temperature == 0 or getattr(self.token_rule, "pick", "sample") == "greedy"
        highest = max(values)
        weights = [math.exp((v - highest) / (temperature or 1.0)) for v in values]
        total = sum(weights)
        after = [w / total for w in weights]
        rank_after = {i: rank for rank, i in enumerate(sorted(range(len(values)), key=lambda i: -values[i]), 1)}
        kl = -log_probs[index] if greedy else sum(q * (math.log(q) - s) for q, s in zip(after, log_probs, strict=True) if q > 0)
        said = rewards.tolist() if rewards is not None else None
        candidates = tuple(
            Candidate(
                token, self.lm.token_texts.text(token), log_probs[i], values[i], i + 1, rank_after[i], after[i],
                ((self.guide, said[i]),) if said is not None else (),
            )
            for i, token in enumerate(ids)
        )  # fmt: skip
        token = ids[index]
        return Step(
            position, token, "", log_probs[index], values[index], index + 1, rank_after[index], math.exp(log_probs[index]), after[index], kl,
            candidates[index].rewards, candidates,
        )  # fmt: skip

    def take(self, row: _Row, index: int, observed: dict[str, float]) -> Step:
        """The selected token joins the response: the whole step. The row is done at its end or its last place."""
        step = row.steps[-1]
        row.token_ids.append(step.token_id)
        text = row.text.push(step.token_id)
        if step.token_id in self.lm.loaded.eos_ids or len(row.token_ids) >= self.config.max_new_tokens:
            text += row.text.finish()
            row.active = False
        watched = tuple((name, observed[name]) for name in self.watching if name in observed)
        row.steps[-1] = replace(step, text=text, rewards=step.rewards + watched)
        return row.steps[-1]

    def stop_reason(self, row: _Row) -> str:
        if row.token_ids and row.token_ids[-1] in self.lm.loaded.eos_ids:
            return "eos"
        return "max_new_tokens" if len(row.token_ids) >= self.config.max_new_tokens else "stopped"

    def settle(self, models: Models) -> tuple[list[Step], str]:
        """Best-of-n: the steps of the answer with the highest reward, with the reward of each of its prefixes."""
        drawn = [row for row in self.rows if row.steps]
        if not drawn:
            return [], "stopped"
        responses = [row.token_ids for row in drawn]
        guide = models.reward_model(self.run.reward_model.name)
        along = guide.along(read_prompt(guide, self.run, self.lm), responses)
        self.forwards[guide.name] = 1
        if not all(math.isfinite(r[-1]) for r in along):
            raise _not_finite(guide.name, "at the end of an answer")
        best = self.rule.choose([rewards[-1] for rewards in along])
        said = {guide.name: along[best]}
        for observer in self.run.observers:
            model = models.reward_model(observer.name)
            said[observer.name] = model.along(read_prompt(model, self.run, self.lm), [responses[best]])[0]
            self.forwards[observer.name] = 1
        row, skip = drawn[best], len(self.run.forced_ids[:-1])
        steps = [
            replace(s, kl=None, rewards=tuple((name, r[skip + i]) for name, r in said.items() if math.isfinite(r[skip + i])))
            for i, s in enumerate(row.steps)
        ]
        return steps, self.stop_reason(row)


def _not_finite(name: str, where: str) -> BadReward:
    return BadReward(
        f"Reward model `{name}` returned a reward that is not a number.",
        f"Found NaN or infinity {where}.",
        "Choose another reward model; this one may be damaged.",
    )


@torch.inference_mode()
def generate(runs: Sequence[Run], models: Models, stop: Callable[[], bool] = lambda: False) -> Iterator[tuple[int, Event]]:
    """Runs all columns together and yields (column, Step | Working | Ended); every column ends with `Ended`.

    A column whose reward model returns NaN, or whose rule fails, ends with "error" and its words; the others go on.
    `stop` is asked once a round.
    """
    started = time.perf_counter()
    columns: list[_Column] = []
    for run in runs:
        columns.append(_Column(run, sum(len(c.rows) for c in columns), models.base_lm))
    longest = max(run.generation.max_new_tokens for run in runs)
    lm = models.base_lm.start([c.start for c in columns for _ in c.rows], reserve=longest + 2)
    watchers = _watchers(columns, models, longest)

    def end(number: int, reason: str, error: str = "") -> tuple[int, Ended]:
        column = columns[number]
        column.ended = True
        lm.finish(range(column.first_row, column.first_row + len(column.rows)))
        for prefixes, members in watchers.values():
            prefixes.finish([i for i, c in enumerate(members) if c is column])
        return number, Ended(reason, error, column.lm_forwards, sum(column.forwards.values()), time.perf_counter() - started)

    for number, column in enumerate(columns):
        if len(column.run.forced_ids) > column.config.max_new_tokens:
            yield end(number, "max_new_tokens")
    while any(not c.ended for c in columns):
        if stop():
            for number, column in enumerate(columns):
                if not column.ended:
                    yield from ((number, step) for step in _settled(column, models)[0])
                    yield end(number, "stopped")
            return
        failed = _round(columns, lm, watchers)
        for number, column in enumerate(columns):
            if column.ended:
                continue
            if column in failed:
                yield end(number, "error", str(failed[column]))
            elif column.many:
                if any(row.active for row in column.rows):
                    yield number, Working(f"{len(column.rows)} answers, token {max(len(row.token_ids) for row in column.rows)}")
                    continue
                steps, reason, error = _settled(column, models)
                yield from ((number, step) for step in steps)
                yield end(number, reason, error)
            else:
                row = column.rows[0]
                yield number, row.steps[-1]
                if not row.active:
                    yield end(number, column.stop_reason(row))


def _settled(column: _Column, models: Models) -> tuple[list[Step], str, str]:
    """What a column that draws several answers comes to: steps, stop reason, error."""
    if not column.many:
        return [], "stopped", ""
    try:
        return *column.settle(models), ""
    except RgtgError as error:
        return [], "error", str(error)


def _watchers(columns: Sequence[_Column], models: Models, reserve: int) -> dict[str, tuple]:
    """The batch of each reward model: its prefixes and the columns that are its rows, guided or observed."""
    found = {}
    names = dict.fromkeys(n for c in columns for n in ([c.guide] if c.guide else []))  # guides first: they decide the token
    names |= dict.fromkeys(n for c in columns for n in c.watching)
    for name in names:
        members = [c for c in columns if c.guide == name or name in c.watching]
        widest, model = max(c.config.top_k for c in members), models.reward_model(name)
        prompts = [read_prompt(model, c.run, models.base_lm) for c in members]
        texts = [(*prompt, *c.run.forced_ids[:-1]) for prompt, c in zip(prompts, members, strict=True)]
        found[name] = model.start(texts, reserve + 2 * widest, [len(prompt) for prompt in prompts]), members
    return found


def _round(columns: Sequence[_Column], lm, watchers: dict[str, tuple]) -> dict[_Column, RgtgError]:
    """One token for every active row of every column; returns the columns that failed, with why."""
    active = [c for c in columns if not c.ended]
    failed: dict[_Column, RgtgError] = {}
    log_probs = lm.log_probs()
    for column in active:
        column.lm_forwards = lm.num_forwards
    widest = min(max(c.config.top_k for c in active), log_probs.shape[-1])
    top, ids = (t.cpu() for t in log_probs.topk(widest, dim=-1))
    for column in active:
        rows = slice(column.first_row, column.first_row + len(column.rows))
        column.propose(top[rows], ids[rows])
    # where no reward decides, the token is known now
    index: dict[int, int] = {}
    for column in active:
        if column.guide is None:
            for row in column.rows:
                if row.active:
                    _guarded(failed, column, index, row, None)
    seen: dict[_Column, dict[str, Tensor]] = {c: {} for c in active}
    for name, (prefixes, members) in watchers.items():
        _score(name, prefixes, members, index, seen, failed)
    appended = [0] * sum(len(c.rows) for c in columns)
    for column in active:
        if column in failed:
            continue
        for j, row in enumerate(column.rows):
            if row.active:
                step = column.take(row, index[id(row)], _observed(seen[column], index[id(row)]))
                appended[column.first_row + j] = step.token_id
    lm.append(appended)
    for prefixes, members in watchers.values():
        prefixes.append([c.rows[0].token_ids[-1] if c.rows[0].token_ids else 0 for c in members])
    lm.finish([c.first_row + j for c in active for j, row in enumerate(c.rows) if not row.active])
    return failed


def _guarded(failed: dict, column: _Column, index: dict[int, int], row: _Row, rewards: Tensor | None) -> None:
    try:
        index[id(row)] = column.select(row, rewards)
    except RgtgError as error:
        failed[column] = error


def _score(name: str, prefixes, members: Sequence[_Column], index: dict[int, int], seen: dict, failed: dict) -> None:
    """One forward of one reward model: the candidates of columns it guides, the selected token of those it observes.

    A column that it observes while another model has yet to choose shows all its candidates; `_observed` reads it off.
    """
    if not any(c for c in members if not c.ended and c not in failed):
        return
    asked: list[list[int]] = []
    for column in members:
        row = column.rows[0]
        if column.ended or column in failed:
            asked.append([0])
        elif id(row) in index:
            asked.append([int(row.candidate_ids[index[id(row)]])])
        else:
            asked.append(row.candidate_ids.tolist())
    widest = max(map(len, asked))
    rewards = prefixes.score([ids + ids[-1:] * (widest - len(ids)) for ids in asked]).cpu()
    for i, column in enumerate(members):
        if column.ended or column in failed:
            continue
        row, said = column.rows[0], rewards[i, : len(asked[i])]
        column.forwards[name] = prefixes.num_forwards
        if not bool(said.isfinite().all()):
            failed[column] = _not_finite(name, f"for a candidate of token {len(row.token_ids) + 1}")
        elif column.guide == name:
            _guarded(failed, column, index, row, said)
        else:
            seen[column][name] = said


def _observed(seen: dict[str, Tensor], index: int) -> dict[str, float]:
    """What each observer said of the token that was taken: it saw that one alone, or all candidates."""
    return {name: float(said[index if len(said) > 1 else 0]) for name, said in seen.items()}
