"""The two of a prompt's answers about whose order reward models disagree: all columns have answered, and a rule that looks at that draws.

The reward models are those that guide a column of the task, and the judges. Knows nothing of models at work, the database or the screen.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from rgtg.errors import BadSettings
from rgtg.ratings.battles import Battle
from rgtg.ratings.next_pair import next_pair, spread
from rgtg.records import Trace


def drawn(traces: Sequence[Trace], rule: dict[str, Any], battles: Sequence[Battle], rng: np.random.Generator) -> tuple[list[Trace], dict[str, Any]]:
    """The two answers in the order on screen, and the rule with its probability for them and what it went by. `traces` are the answers of the
    rule's columns; two of one text are drawn only where all are equal. Raises BadSettings where fewer than two reward models scored all of them."""
    of_column = {str(column): trace for column, trace in zip(rule["columns"], traces, strict=True)}
    rewards = {column: _at_end(trace) for column, trace in of_column.items()}
    models = sorted(set.intersection(*map(set, rewards.values())))
    if len(models) < 2:
        do = "Choose a line-up with several reward models, or another rule."
        raise BadSettings(
            "Reward models disagree where there are two of them.", f"These scored every answer: {', '.join(models) or 'none'}.", do, "task-rule"
        )
    names = sorted(of_column, key=int)
    pairs = list(combinations(names, 2))
    pairs = [(a, b) for a, b in pairs if of_column[a].response != of_column[b].response] or pairs
    pair, probability = next_pair(rule["rule"], names, battles, rng, rewards, pairs)
    went_by = {"reward_models": models, "disagreement": round(spread(rewards, *pair), 6)}
    return [of_column[column] for column in pair], rule | {"probability": probability, "columns": [int(column) for column in pair]} | went_by


def _at_end(trace: Trace) -> dict[str, float]:
    """The rewards of the complete answer, of the models that have one."""
    return {name: reward for name, reward in trace.steps[-1].rewards if reward is not None} if trace.steps else {}
