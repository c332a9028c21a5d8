"""Frozen records of runs, traces, votes, models and jobs, with tuples inside: they hash, compare, and survive JSON unchanged.

Knows nothing of tensors, models, the database or the screen.
"""

import json
import math
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from os.path import isfile
from pathlib import Path
from typing import Any, ClassVar

from rgtg.config import GenerationConfig, with_new_names
from rgtg.errors import BadData, door, printable
from rgtg.system.serialization import check_types, from_dict, read_json

CARD_FILE = "card.json"
MODEL_KINDS = ("base_lm", "reward_model", "judge")
NAMES, MAX_NAME = ("name", "objective", "base_lm", "template", "license", "parent", "reference", "reward_kind"), 200  # of a card: one line each
ANSWERS, STATES = ("best", "tie", "all_bad", "skip"), ("open", "closed", "expired", "abandoned")  # verdicts of a vote, states of a comparison
MINUS_INFINITY = "-inf"  # how JSON holds a threshold that accepts everything
Rewards = tuple[tuple[str, float], ...]  # (("partial", 1.25), ("judge", 0.5)): by reward model, guide first
Params = tuple[tuple[str, float | int | str | bool], ...]  # (("beta", 2.0), ("pick", "sample"))


def new_id() -> str:
    """Random id of 32 hexadecimal digits."""
    return uuid.uuid4().hex


def now() -> str:
    """Current time in UTC, for display; the order of records comes from the database."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class ModelRef:
    """Reference to weights: the model's name on screen, and as revision the hash of its safetensors or the commit on the Hub."""

    name: str
    revision: str = ""


@dataclass(frozen=True)
class Candidate:
    """Candidate token of a step. Its log probability is in nats over the complete vocabulary; ranks begin at 1.

    `rewards` are each guide's reward of prefix + token, () without a guide; `score` is what the selection compared; `prob_after` is its
    probability among the candidates after guidance, at the run's temperature."""

    token_id: int
    text: str
    log_prob: float
    score: float
    rank_before: int
    rank_after: int
    prob_after: float
    rewards: Rewards = ()


@dataclass(frozen=True)
class Tried:
    """Rejected continuation of the text so far: the reward at its end, and the `threshold` it missed or its normalised `weight`."""

    text: str
    token_ids: tuple[int, ...]
    reward: float | None = None
    threshold: float | None = None
    weight: float | None = None


@dataclass(frozen=True)
class Step:
    """One token of a response with the candidates it was selected from, itself included.

    `text` is what the token adds to the response, "" while a character is incomplete; `rewards` are those of the prefix that ends here; `kl` is
    in nats, to the base LM with the same candidates and temperature, and `truncation` the KL of the latter to the complete base LM (older
    traces have none: their `kl` is to the complete one); both are None for methods without a distribution over tokens; `tried` was rejected."""

    position: int
    token_id: int
    text: str
    log_prob: float
    score: float
    rank_before: int
    rank_after: int
    prob_before: float
    prob_after: float
    kl: float | None = None
    rewards: Rewards = ()
    candidates: tuple[Candidate, ...] = ()
    tried: tuple[Tried, ...] = ()
    truncation: float | None = None

    def reward(self, name: str) -> float | None:
        return dict(self.rewards).get(name)


@dataclass(frozen=True)
class ColumnSpec:
    """Settings of one column. `generation` overrides the comparison's for this column. Instead of one `reward_model`, `guides` may name
    several with their weights, in a method's roles "" for the default; `combine` says how their rewards are combined."""

    method: str
    params: Params = ()
    reward_model: str | None = None
    generation: GenerationConfig | None = None
    guides: tuple[tuple[str, float], ...] = ()
    combine: str = "sum"

    @property
    def mix(self) -> tuple[tuple[str, float], ...]:
        """Reward models with their weights; () for the method's default."""
        return self.guides or (((self.reward_model, 1.0),) if self.reward_model else ())


@dataclass(frozen=True)
class Run:
    """Everything needed to reproduce an answer in another process.

    `guides` are the reward models that guide, with their weights, `combine` how their rewards are combined; `observers` score every prefix and
    never guide. `forced_ids` are given response tokens: a branch repeats those of its parent up to the branch and takes another one there.
    `standards`: where rewards are standardised, each guide's means and standard deviations over base samples, by length from 1.
    """

    prompt: str
    method: str
    base_lm: ModelRef
    params: Params = ()
    guides: tuple[tuple[ModelRef, float], ...] = ()
    combine: str = "sum"
    observers: tuple[ModelRef, ...] = ()
    generation: GenerationConfig = GenerationConfig()
    seed: int = 0
    prompt_ids: tuple[int, ...] = ()
    forced_ids: tuple[int, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()
    standards: tuple[tuple[str, tuple[float, ...], tuple[float, ...]], ...] = ()

    @property
    def reward_model(self) -> ModelRef | None:
        """The first guide; None without one."""
        return self.guides[0][0] if self.guides else None

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """All reward models of the run: guides, then observers."""
        return (*(ref for ref, _ in self.guides), *self.observers)

    def plain(self) -> dict[str, Any]:
        """Fields as JSON can hold them: see `plain_params`."""
        return asdict(self) | {"params": list(plain_params(self.params).items())}

    @classmethod
    def upgraded(cls, stored: dict) -> dict:
        """Fields from the output of `plain`, or from that of an earlier version, which had one `reward_model`."""
        stored = stored | {"params": [[name, -math.inf if value == MINUS_INFINITY else value] for name, value in stored.get("params", ())]}
        if "reward_model" not in stored or "guides" in stored:
            return stored
        return stored | {"guides": [[stored["reward_model"], 1.0]] if stored["reward_model"] else []}


def plain_params(params: Params) -> dict[str, float | int | str | bool]:
    """Parameters as JSON can hold them: minus infinity becomes a string; no parameter can be NaN or infinity.

    >>> plain_params((("threshold", float("-inf")), ("tries", 20)))
    {'threshold': '-inf', 'tries': 20}
    """
    return {name: MINUS_INFINITY if isinstance(value, float) and value == -math.inf else value for name, value in params}


def mix_words(guides: Sequence[tuple[ModelRef, float]]) -> str:
    """Guides as text, with weights other than 1: `partial`, `partial*2 + full*0.5`."""
    return " + ".join(ref.name + (f"*{weight:g}" if weight != 1 else "") for ref, weight in guides)


@dataclass(frozen=True)
class Trace:
    """A run and its result. `column` is A to L; `place` is its position on screen, from 0.

    `parent_trace_id` is the trace it branched off from at token `branch_position`; with the same column it continues that stopped trace, all of
    whose tokens it has. `seconds` count from the start of the comparison to the column's end; forwards and positions are as in `guidance.steps.Cost`
    (older traces have no positions). `note` names models whose cache was wrong, and `check_forwards` counts the forwards of that check."""

    id: str
    column: str
    run: Run
    steps: tuple[Step, ...] = ()
    response: str = ""
    stop_reason: str = "stopped"
    error: str = ""
    place: int = 0
    parent_trace_id: str | None = None
    branch_position: int | None = None
    seconds: float = 0.0
    lm_forwards: int = 0
    reward_forwards: int = 0
    created_at: str = ""
    note: str = ""
    check_forwards: int = 0
    observer_forwards: int = 0
    lm_positions: int = 0
    reward_positions: int = 0
    observer_positions: int = 0

    @property
    def token_ids(self) -> tuple[int, ...]:
        ids = getattr(self.steps, "token_ids", None)  # those of a stored answer, without unpacking its steps
        return tuple(step.token_id for step in self.steps) if ids is None else ids

    @property
    def tokens_per_second(self) -> float:
        return (len(self.steps) - len(self.run.forced_ids)) / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class Comparison:
    """One prompt and its traces. `pair_rule` says how its columns were chosen (`manual` on Compare); `turns`: its messages (role, text), if any."""

    id: str
    prompt: str
    traces: tuple[Trace, ...] = ()
    state: str = "closed"
    rater_id: str | None = None
    pair_rule: str = "manual"
    blind: bool = False
    created_at: str = ""
    guideline_version: str = ""
    turns: tuple[tuple[str, str], ...] = ()

    def trace(self, trace_id: str) -> Trace | None:
        return next((t for t in self.traces if t.id == trace_id), None)


@dataclass(frozen=True)
class Vote:
    """A rater's verdict on the traces in `seen_trace_ids`. It is never edited: a change of mind is a new vote.

    `best_trace_id` is set only with `best`; `strength` 1, 2, 3 means margin 0, 1/2, 1; `ranking` has levels of answers, best first. The client
    makes the `id`: same id and content are one vote. `revision` counts a rater's votes on the comparison."""

    id: str
    comparison_id: str
    verdict: str
    best_trace_id: str | None = None
    seen_trace_ids: tuple[str, ...] = ()
    rater_id: str | None = None
    strength: int | None = None
    reasons: tuple[str, ...] = ()
    comment: str = ""
    guideline_version: str = ""
    dwell_ms: int | None = None
    revision: int = 0
    created_at: str = ""
    ranking: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Span:
    """A marked passage of a response: tokens start … end - 1 are `good` or `bad`, or the response `goes_wrong` from start on."""

    id: str
    trace_id: str
    start: int
    end: int
    label: str
    rater_id: str | None = None
    comment: str = ""
    created_at: str = ""


@dataclass(frozen=True)
class Pair:
    """Preference between two responses, derived from a vote and never stored; both share `num_common` leading tokens by construction."""

    prompt: str
    chosen: str
    rejected: str
    comparison_id: str
    vote_id: str
    chosen_trace_id: str
    rejected_trace_id: str
    prompt_ids: tuple[int, ...] = ()
    chosen_ids: tuple[int, ...] = ()
    rejected_ids: tuple[int, ...] = ()
    num_common: int = 0
    margin: float = 0.0
    rater_id: str | None = None


@dataclass(frozen=True)
class ModelCard:
    """Model card, `card.json` beside the weights: what a model was trained on and for, and how accurate it is on held-out data.

    `kind` is base_lm, reward_model or judge (observes, never guides); `trained_on` is its task in words; `zero` is the reward with
    equal error rates on both sides; `accuracy` is {prefix length or "end": {"accuracy", "n"}}; `parent` is the reward model it was trained from,
    `reference` that of an implicit reward; `report` is of `training.held_out`, `data` a `DataReport`, `snapshot` of votes; `reward_kind` of `KINDS`.
    """

    kind: str
    name: str
    trained_on: str = ""
    source: str = ""
    objective: str = ""
    base_lm: str = ""
    template: str = "plain"
    num_texts: int = 0
    num_pairs: int = 0
    pairs_sha256: str = ""
    zero: float = 0.0
    accuracy: dict = field(default_factory=dict, hash=False)
    metrics: dict = field(default_factory=dict, hash=False)
    training: dict = field(default_factory=dict, hash=False)
    license: str = ""
    parent: str = ""
    reference: str = ""
    system_prompt: str = ""
    verdict: str = ""
    report: dict = field(default_factory=dict, hash=False)
    data: dict = field(default_factory=dict, hash=False)
    reward_kind: str = ""
    snapshot: dict = field(default_factory=dict, hash=False)

    def write(self, folder: Path) -> None:
        (folder / CARD_FILE).write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "ModelCard | None":
        """Card of a model folder; None if it has none, as a model from elsewhere. Raises BadData."""
        if not isfile(path := folder / CARD_FILE):
            return None
        with door(printable(f"{path} is not a model card."), "Delete it, or replace it with the right one.", BadData):
            if isinstance(fields := read_json(path), dict):  # earlier versions had another name
                fields = {"trained_on" if name == "taught" else name: value for name, value in fields.items()}
            check_types(cls, fields)
            card = from_dict(cls, fields | {"training": with_new_names(fields.get("training", {}))})
            if card.kind not in MODEL_KINDS:
                raise ValueError(f"`kind` has to be one of {', '.join(MODEL_KINDS)}, but is `{card.kind:.60}`")
            texts = {name: getattr(card, name) for name in NAMES}  # they are shown on one line
            if wrong := next((name for name, text in texts.items() if len(text) > MAX_NAME or (text and not text.isprintable())), None):
                raise ValueError(f"`{wrong}` has to be one line of at most {MAX_NAME} characters")
            return card


@dataclass(frozen=True)
class Job:
    """Background training as stored in the database. `config` is the requested training, `progress` its latest report.
    `error_code` and `error_text` say why it failed, was interrupted or cancelled; `reward_model` is the name of the model it published.
    """

    ACTIVE: ClassVar = ("running", "cancelling")  # states in which it occupies its device
    UNFINISHED: ClassVar = ("queued", *ACTIVE)
    RESUMABLE: ClassVar = ("interrupted", "failed")
    STATES: ClassVar = (*UNFINISHED, *RESUMABLE, "succeeded", "cancelled")

    id: str
    config: dict = field(default_factory=dict, hash=False)
    kind: str = "train"
    state: str = "queued"
    device: str = "auto"
    snapshot_id: str | None = None
    attempt: int = 0
    max_attempts: int = 3
    pid: int | None = None
    pid_created_at: float | None = None
    heartbeat_at: str | None = None
    progress: dict | None = field(default=None, hash=False)
    cancel_requested_at: str | None = None
    error_code: str | None = None
    error_text: str | None = None
    reward_model: str | None = None
    created_at: str = ""
    started_at: str | None = None
    ended_at: str | None = None

    @property
    def active(self) -> bool:
        """Whether it occupies its device."""
        return self.state in self.ACTIVE


@dataclass(frozen=True)
class RewardModelRow:
    """Reward model trained here, as stored in the database. `parent` and `base_lm` are names; `sha256` is over its safetensors files, and
    `ModelRef.revision` is its beginning; `status` is ready, not_recommended, quarantined or deleted."""

    id: str
    name: str
    base_lm: str
    sha256: str
    parent: str | None = None
    template: str = "plain"
    snapshot_id: str | None = None
    job_id: str | None = None
    metrics: dict = field(default_factory=dict, hash=False)
    status: str = "ready"
    created_at: str = ""
