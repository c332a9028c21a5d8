"""The cells of a sweep: one setting on one prompt with one random seed, its key, and its result.

A judge that never guides scores the finished answer. Knows nothing of files, tables or the screen.
"""

import hashlib
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from rgtg import __version__
from rgtg.config import GenerationConfig
from rgtg.engine import Ended, Models, make_run, opening
from rgtg.errors import BadData
from rgtg.guidance.methods import method
from rgtg.records import ColumnSpec, Run, Step, mix_words
from rgtg.rewards.base import RewardModel, not_finite
from rgtg.rewards.combine import SUM, combined
from rgtg.system.serialization import to_json

DEFINITIONS = "KL to the base LM with the same candidates"  # to be changed with the meaning of a metric: stored cells are then computed again
MADE_BY = (
    "engine.py",
    "runs.py",
    "prompts.py",
    "records.py",
    "evaluation/cells.py",
    "guidance",
    "models",
    "rewards",
)  # sources that a cell depends on


@dataclass(frozen=True)
class Cell:
    """Result of one setting on one prompt with one random seed.

    `judge` is the judge's reward of the finished answer, minus its zero; `log_prob` is the mean per token under the base LM, in nats; `kl` and
    `truncation` are sums over tokens (see `Step`), None for methods without a distribution over tokens, for some of which `kl_bound` is known: what
    the KL of the setting is at most; forwards are those that served it.
    """

    key: str
    setting: str
    prompt: str
    seed: int
    text: str
    token_ids: tuple[int, ...]
    stop_reason: str
    judge: float
    guide: float | None
    log_prob: float
    kl: float | None
    truncation: float | None = None
    lm_forwards: int = 0
    reward_forwards: int = 0
    kl_bound: float | None = None


@cache
def code_version() -> str:
    """Version of rgtg with a hash of the sources that a cell depends on: `0.3.0+1f0c…`."""
    root, digest = Path(__file__).resolve().parent.parent, hashlib.sha256()
    for path in sorted(path for name in MADE_BY for path in ([root / name] if name.endswith(".py") else (root / name).rglob("*.py"))):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes().replace(b"\r\n", b"\n"))
    return f"{__version__}+{digest.hexdigest()[:12]}"


def planned(
    models: Models,
    column: ColumnSpec,
    prompts: Sequence[str],
    generation: GenerationConfig,
    seeds: Sequence[int],
    judge: RewardModel,
    first_seed: int = 0,
) -> list[tuple[str, Run]]:
    """Runs of a column with their cell keys. Each prompt has its own random seeds, the same for all settings: comparisons are paired."""
    settings = column.generation or generation
    return [
        (cell_key(run, judge), run)
        for seed in seeds
        for number, prompt in enumerate(prompts)
        for run in [
            make_run(
                prompt, column.method, models, column.params, column.mix, (), settings, run_seed(first_seed, seed, number), combining=column.combine
            )
        ]
    ]  # fmt: skip


def run_seed(first_seed: int, seed: int, number: int = 0) -> int:
    """Random seed of an answer: of the sweep's `seed`th seed, for its prompt of this number."""
    return first_seed + seed * 100_003 + number


def cell_key(run: Run, judge: RewardModel) -> str:
    """Hash of everything a cell depends on but the code: the run with the hashes of its models, the judge's, the definitions of the metrics."""
    content = to_json(replace(run, versions=(), standards=())) + judge.ref.revision + DEFINITIONS
    return hashlib.sha256(content.encode()).hexdigest()[:24]


def label(run: Run) -> str:
    """Name of a setting in the table: `pargs · partial · beta 2`; of the parameters the first number and those that are not at their default."""
    params, parameters = dict(run.params), method(run.method).parameters
    parts = [run.method] + ([mix_words(run.guides)] if run.guides else []) + ([run.combine] if run.combine != SUM.key else [])
    first = next((p.name for p in parameters if not p.choices), "")
    shown = {p.name: params[p.name] for p in parameters if p.name in params and (p.name == first or params[p.name] != p.default)}
    parts += [f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in shown.items()]
    default = GenerationConfig(max_new_tokens=run.generation.max_new_tokens)
    parts += [f"{k} {v:g}" for k, v in asdict(run.generation).items() if v != getattr(default, k)]
    return " · ".join(parts)


def cell_of(key: str, run: Run, steps: Sequence[Step], end: Ended, models: Models, judge: RewardModel) -> Cell:
    """The cell of a finished run. Raises BadData where it failed, BadReward where the judge's reward is not finite."""
    if end.stop_reason == "error":
        raise BadData(f"`{label(run)}` failed on {run.prompt!r}.", end.error)
    ids = tuple(s.token_id for s in steps)
    kl, truncation = (total([getattr(s, name) for s in steps]) for name in ("kl", "truncation"))
    return Cell(
        key, label(run), run.prompt, run.seed, "".join(s.text for s in steps), ids, end.stop_reason,
        judged(run, ids, models, judge), guided(run, steps), statistics.fmean(s.log_prob for s in steps), kl, truncation,
        end.lm_forwards, end.reward_forwards, None if kl is not None else method(run.method).make(run.params).kl_bound,
    )  # fmt: skip


def judged(run: Run, ids: Sequence[int], models: Models, judge: RewardModel) -> float:
    """The judge's reward of a finished answer, minus its zero."""
    reward = judge.reads(models.base_lm).score(opening(run), ids)
    if not math.isfinite(reward):
        raise not_finite(judge.name, f"at the end of an answer to {run.prompt!r:.80}")
    return reward - judge.zero


def guided(run: Run, steps: Sequence[Step]) -> float | None:
    """The guides' combined reward of a finished answer; None without guides."""
    rewards = dict(steps[-1].rewards)
    return combined(run, rewards, len(steps)) if run.guides and all(ref.name in rewards for ref, _ in run.guides) else None


def total(values: Sequence[float | None]) -> float | None:
    """Sum over the tokens of an answer; None where one has no value."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
