"""Answers sampled from the base LM or from a guided policy, scored by a judge, as rows that a training reads.

Knows nothing of files or the screen.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

from rgtg.config import GenerationConfig
from rgtg.engine import Ended, Models, generate, make_run, opening
from rgtg.errors import BadData
from rgtg.evaluation.cells import label, run_seed
from rgtg.evaluation.examine.reading import rewards_of
from rgtg.guidance.methods import BASE
from rgtg.guidance.steps import AnswerProgress
from rgtg.prompts import pieces
from rgtg.records import ColumnSpec, Run, Step
from rgtg.rewards.base import RewardModel, not_finite

AT_ONCE = 40  # answers that grow together
BASE_LM = ColumnSpec(BASE)
Answer = tuple[tuple[int, ...], str]  # token ids, stop reason
Listen = Callable[[float, int], None]
Check = Callable[[Sequence[Run]], None]


def sampled(
    models: Models,
    judge: RewardModel,
    prompts: Sequence[str],
    num_samples: int,
    generation: GenerationConfig,
    policy: ColumnSpec = BASE_LM,
    roll_in: bool = False,
    first_seed: int = 0,
    check: Check = lambda runs: None,
    listen: Listen = lambda done, total: None,
) -> list[dict[str, Any]]:
    """`num_samples` answers to every prompt, a row each: `prompt`, `response`, `score` (the judge's reward of the complete answer less its zero),
    token ids, and `num_guided`, the number of first tokens that another policy than the base LM wrote.

    With `roll_in` a guided policy writes the first h tokens, h uniform below the length of its answer, and the base LM all that follow, so that
    prefixes of h tokens and more have the score of a sample of the base LM behind them (Q#, arXiv 2502.20548). `check` is given the runs before
    the first of them. Raises BadData where an answer fails, BadReward where a score is not finite.
    """
    settings = policy.generation or generation
    seeds = [(prompt, run_seed(first_seed, seed, number)) for seed in range(num_samples) for number, prompt in enumerate(prompts)]
    runs = [make_run(p, policy.method, models, policy.params, policy.mix, (), settings, seed, combining=policy.combine) for p, seed in seeds]
    check(runs)
    guided = policy.method != BASE
    parts = 1 + (roll_in and guided)
    answers = _answers(runs, models, lambda done: listen(done / parts, len(runs)))
    num_guided = [len(ids) if guided else 0 for ids, _ in answers]
    if roll_in and guided:
        num_guided = [random.Random(run.seed).randrange(len(ids)) for run, (ids, _) in zip(runs, answers, strict=True)]
        behind = [
            make_run(run.prompt, BASE, models, generation=settings, seed=run.seed, forced_ids=ids[:number])
            for run, (ids, _), number in zip(runs, answers, num_guided, strict=True)
        ]
        answers = _answers(behind, models, lambda done: listen((len(runs) + done) / parts, len(runs)))
    rewards = rewards_of(judge.reads(models.base_lm), [(opening(run), ids) for run, (ids, _) in zip(runs, answers, strict=True)])
    rows, lm = [], models.base_lm.loaded
    for run, (ids, stop_reason), number, (*_, reward) in zip(runs, answers, num_guided, rewards, strict=True):
        if reward - reward != 0:
            raise not_finite(judge.name, f"at the end of an answer to {run.prompt!r:.80}")
        text = "".join(pieces(lm.tokenizer, run.prompt_ids, ids, lm.closing))
        row = {"prompt": run.prompt, "response": text, "score": round(reward - judge.zero, 6)}
        row |= {"prompt_ids": list(run.prompt_ids), "response_ids": list(ids), "response_stop_reason": stop_reason}
        rows.append(row | {"num_guided": number, "sampled_by": label(run)})
    return rows


def _answers(runs: Sequence[Run], models: Models, listen: Callable[[float], None]) -> list[Answer]:
    """Token ids of the answer of each run, those that it was given included, and why it stopped."""
    ids = [list(run.forced_ids[:-1]) for run in runs]
    stop_reasons = [""] * len(runs)
    progress = AnswerProgress(runs)
    for index, event in generate(runs, models, at_once=AT_ONCE):
        listen(progress.after(index, event))
        if isinstance(event, Step):
            ids[index].append(event.token_id)
        elif isinstance(event, Ended):
            if event.stop_reason == "error":
                raise BadData(f"`{label(runs[index])}` failed on {runs[index].prompt!r:.80}.", event.error)
            stop_reasons[index] = event.stop_reason
    return [(tuple(of_run), reason) for of_run, reason in zip(ids, stop_reasons, strict=True)]
