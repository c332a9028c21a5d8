"""What happened, as frozen records with tuples inside: they hash, compare, go to JSON and back unchanged.

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
ANSWERS = ("best", "tie", "all_bad", "skip")  # the verdicts that a person gives
STATES = ("open", "closed", "expired", "abandoned")
Rewards = tuple[tuple[str, float], ...]  # (("partial", 1.25), ("judge", 0.5)): by reward model, guide first
Params = tuple[tuple[str, float | int | str | bool], ...]  # (("beta", 2.0), ("pick", "sample"))


def new_id() -> str:
    """A random id that tells nothing."""
    return uuid.uuid4().hex


def now() -> str:
    """UTC, for people; order comes from the database."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class ModelRef:
    """Which weights: the name on screen and the hash of the safetensors, or the hub's commit."""

    name: str
    revision: str = ""


@dataclass(frozen=True)
class Candidate:
    """One token that could have been taken. Log probability in nats over the whole vocabulary, ranks from 1.

    `rewards` holds each guide's reward of prefix + token (empty where nothing guided); `score` is what selection
    compared; `prob_after` is its share among the candidates after guidance, at the run's temperature.
    """

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
    """A piece of an answer that was tried behind the text so far and not taken: its reward as it ended, and the `threshold` that it
    missed or the `weight` that it had (its share among the rows)."""

    text: str
    token_ids: tuple[int, ...]
    reward: float | None = None
    threshold: float | None = None
    weight: float | None = None


@dataclass(frozen=True)
class Step:
    """One token of a response and the candidates it was selected from (the selected one among them).

    `text` is what this token adds to the response, "" while a character is incomplete; `rewards` are those of the prefix that ends here.
    `kl` is the step's KL in nats to the base LM with the same candidates and temperature, `truncation` that of the latter to the complete
    one (older traces have none: their `kl` is to the complete one); None without a distribution of single tokens. `tried` was given up.
    """

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
    """What a person sets for one column. `generation` overrides the comparison's settings for this column alone. In place of the one
    `reward_model`, `guides` may name several with their weights, and `combine` the way in which their rewards become one."""

    method: str
    params: Params = ()
    reward_model: str | None = None
    generation: GenerationConfig | None = None
    guides: tuple[tuple[str, float], ...] = ()
    combine: str = "sum"

    @property
    def mix(self) -> tuple[tuple[str, float], ...]:
        """Every reward model that is named, with its weight; none where the method's default is meant."""
        return self.guides or (((self.reward_model, 1.0),) if self.reward_model else ())


@dataclass(frozen=True)
class Run:
    """Everything needed to do it again in another process.

    `guides` are the reward models that guide, each with its weight; `combine` says how their rewards become one. `forced_ids` are
    response tokens that are given, not chosen: a branch repeats its parent's up to the branch and takes another token there.
    `observers` see every prefix and never guide.
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

    @property
    def reward_model(self) -> ModelRef | None:
        """The first guide; None where nothing guides."""
        return self.guides[0][0] if self.guides else None

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """Every reward model that takes part: guides, then observers."""
        return (*(ref for ref, _ in self.guides), *self.observers)

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it: see `plain_params`."""
        return asdict(self) | {"params": list(plain_params(self.params).items())}

    @classmethod
    def upgraded(cls, found: dict) -> dict:
        """What `plain` gave, or an earlier rgtg wrote, which knew one guide, as the fields have it."""
        found = found | {"params": [[name, -math.inf if value == MINUS_INFINITY else value] for name, value in found.get("params", ())]}
        if "reward_model" not in found or "guides" in found:
            return found
        return found | {"guides": [[found["reward_model"], 1.0]] if found["reward_model"] else []}


MINUS_INFINITY = "-inf"  # what a threshold that accepts everything is written as


def plain_params(params: Params) -> dict[str, float | int | str | bool]:
    """Parameters as JSON can hold them, which has no number for minus infinity; NaN and infinity are no parameter's value.

    >>> plain_params((("threshold", float("-inf")), ("tries", 20)))
    {'threshold': '-inf', 'tries': 20}
    """
    return {name: MINUS_INFINITY if isinstance(value, float) and value == -math.inf else value for name, value in params}


def mix_words(guides: Sequence[tuple[ModelRef, float]]) -> str:
    """`partial`, `partial*2 + full*0.5`: the reward models that guide, with weights other than 1."""
    return " + ".join(ref.name + (f"*{weight:g}" if weight != 1 else "") for ref, weight in guides)


@dataclass(frozen=True)
class Trace:
    """A run and what came of it. `column` is A to H; `place` the position on screen, from 0.

    `parent_trace_id` is that of the trace it branched off at token `branch_position`; one of the same column goes on where that one was
    stopped, with all of its tokens. `seconds` counts from the start of the comparison to this column's end; forwards are those it took
    part in. `note` says where a model's kept cache was found wrong, `check_forwards` what looking for that took."""

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

    @property
    def token_ids(self) -> tuple[int, ...]:
        known = getattr(self.steps, "token_ids", None)  # of a stored answer, without unpacking its steps
        return tuple(step.token_id for step in self.steps) if known is None else known

    @property
    def tokens_per_second(self) -> float:
        return (len(self.steps) - len(self.run.forced_ids)) / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class Comparison:
    """One prompt and its traces, branches included. `pair_rule` says how the pair was chosen (`manual` on Compare)."""

    id: str
    prompt: str
    traces: tuple[Trace, ...] = ()
    state: str = "closed"
    rater_id: str | None = None
    pair_rule: str = "manual"
    blind: bool = False
    created_at: str = ""
    guideline_version: str = ""

    def trace(self, trace_id: str) -> Trace | None:
        return next((t for t in self.traces if t.id == trace_id), None)


@dataclass(frozen=True)
class Vote:
    """A fact: what a person said of the traces that were there to be seen. A change of mind is a new one.

    `best_trace_id` is given exactly when the verdict is `best`; `strength` 1, 2, 3 means margin 0, 1/2, 1. `id` is made by the
    client: the same id with the same content is one vote. `revision` counts a rater's votes on the comparison.
    """

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


@dataclass(frozen=True)
class Span:
    """A mark on a response: tokens start … end - 1 are `good` or `bad`, or it `goes_wrong` from start on."""

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
    """A derived preference between two responses to one prompt; never stored. `num_common` is the number of leading
    tokens that both share by construction: the branch position, 0 for two independent answers."""

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
    """What a model was taught, on what, and how well it does on data that trained nothing; `card.json` beside the weights.

    `kind` is base_lm, reward_model or judge (observes, never guides). `zero` is the reward with equal error on both sides. `accuracy` is
    {prefix length or "end": {"accuracy", "n"}}. `parent` is the reward model it was trained from, `reference` the model that its implicit
    reward is a ratio to, `report` what the held-out pairs say (`training.held_out`), `data` what it was trained on
    (`preferences.dataset.DataReport`), `reward_kind` how it is loaded (a key of `rewards.kinds.KINDS`; older cards: by their objective).
    """

    kind: str
    name: str
    taught: str = ""
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

    def write(self, folder: Path) -> None:
        (folder / CARD_FILE).write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "ModelCard | None":
        """The card of a model folder; None where the folder has none (a model from elsewhere). Raises BadData."""
        if not isfile(path := folder / CARD_FILE):
            return None
        with door(printable(f"{path} is no card of a model."), "Delete it, or put the right one there.", BadData):
            check_types(cls, found := read_json(path))
            card = from_dict(cls, found | {"training": with_new_names(found.get("training", {}))})
            if card.kind not in MODEL_KINDS:
                raise ValueError(f"`kind` has to be one of {', '.join(MODEL_KINDS)}, but is `{card.kind:.60}`")
            for name in NAMES:  # a list and a page show them on one line
                if len(text := getattr(card, name)) > MAX_NAME or (text and not text.isprintable()):
                    raise ValueError(f"`{name}` has to be one line of at most {MAX_NAME} characters")
            return card


@dataclass(frozen=True)
class Job:
    """A background training as the database knows it. `config` is what was asked for, `progress` the last line of news.

    `error_code` and `error_text` say why it failed, was interrupted or cancelled; `reward_model` names what it published.
    """

    ACTIVE: ClassVar = ("running", "cancelling")  # it holds its device
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
        """Whether it holds its device."""
        return self.state in self.ACTIVE


@dataclass(frozen=True)
class RewardModelRow:
    """A reward model that was trained here: `parent` and `base_lm` are names, `sha256` is over its safetensors files
    (a run's `ModelRef.revision` is its beginning), `status` one of ready, not_recommended, quarantined, deleted."""

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
