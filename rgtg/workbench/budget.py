"""Estimate of memory and time before a request runs: bytes from the models' configs, seconds from a short measurement of each model.

An upper bound for one comparison, checked against the limits in the settings. Knows nothing of the database, the screen or other
running work.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from rgtg.config import Settings
from rgtg.errors import OverBudget
from rgtg.guidance.methods import method, row_prompts
from rgtg.guidance.spot_check import record_of
from rgtg.records import Run
from rgtg.rewards.combine import needs_standards

if TYPE_CHECKING:
    from rgtg.engine import Models
    from rgtg.models.prefixes.backbone import Backbone

GB = 1e9
MEASURED = 33  # positions of the longer of two forwards that are measured
PATIENCE_S = 0.3  # for repeating a measurement
DRAFT_BYTES, CANDIDATE_BYTES = 1_000, 100  # of a token that is on trial, and of each of its candidates


@dataclass(frozen=True)
class PublicLimits:
    """The most that one request may ask of a public server, whatever it would take; `positions` are all tokens fed to all models, candidates
    included: about prompt + k × new tokens over all columns."""

    prompt_tokens: int = 1_024
    max_new_tokens: int = 512
    top_k: int = 100
    positions: int = 200_000


class Pace(NamedTuple):
    """Seconds of a forward of one position, and of each further position."""

    first: float
    more: float


class Network(NamedTuple):
    """A causal network of a model; a reward that is a ratio has two."""

    backbone: "Backbone"
    head: Any
    config: Any
    num_outputs: int  # of the head, at each position


@dataclass(frozen=True)
class Load:
    """Work of one model in a comparison: rows of its batch, positions in total, and rounds."""

    rows: int
    positions: int
    rounds: int
    width: int  # positions of a row in one forward: itself and its candidates
    length: int  # of the longest text, prompt included


@dataclass(frozen=True)
class Estimate:
    """Upper bounds of one comparison."""

    seconds: float
    gigabytes: float


class Budget:
    """Checks comparisons against the limits; measurements of a model are kept as long as the model."""

    def __init__(self, settings: Settings, limits: PublicLimits = PublicLimits()):
        self.settings, self.limits = settings, limits
        self._paces: WeakKeyDictionary[Any, list[Pace]] = WeakKeyDictionary()

    @property
    def deadline_s(self) -> float | None:
        """Seconds after which a comparison or a sweep ends at its next token; None on a laptop."""
        return self.settings.deadline_s if self.settings.public else None

    def check(self, runs: Sequence[Run], models: "Models", confirmed: bool = False) -> None:
        """Raise OverBudget, naming estimate, limit and what to lower, unless `confirmed`; a public server ignores `confirmed`."""
        self.check_batches([runs], models, confirmed)

    def check_batches(self, batches: Sequence[Sequence[Run]], models: "Models", confirmed: bool = False, at_once: int | None = None) -> None:
        """Check runs that are generated batch after batch, `at_once` answers at a time: times add up, and the largest memory counts."""
        if (confirmed and not self.settings.public) or not batches:
            return
        if self.settings.public:
            self._check_public(batches, models)
        estimates, limits = [self.estimate(runs, models, at_once) for runs in batches], self.settings
        gigabytes, seconds = max(estimate.gigabytes for estimate in estimates), sum(estimate.seconds for estimate in estimates)
        reasons = []
        if gigabytes > limits.memory_budget_gb:
            reasons.append(f"need up to {gigabytes:,.1f} GB of memory, and the limit is {limits.memory_budget_gb:g} GB")
        if seconds > limits.time_budget_s:
            reasons.append(f"take up to {_duration(seconds)}, and the limit is {_duration(limits.time_budget_s)}")
        if reasons:
            raise OverBudget(f"This would {'; it would '.join(reasons)}.", _request(batches, at_once), f"Lower {_listed(_to_lower(batches))}.")

    def _check_public(self, batches: Sequence[Sequence[Run]], models: "Models") -> None:
        """Raise OverBudget where a request exceeds `limits`; measures no model."""
        runs, limits = [run for batch in batches for run in batch], self.limits
        asked = {
            "prompt": ("tokens in a prompt", max(len(run.prompt_ids) for run in runs), limits.prompt_tokens),
            "max_new_tokens": ("new tokens", max(run.generation.max_new_tokens for run in runs), limits.max_new_tokens),
            "top_k": ("candidates a step", max(run.generation.top_k for run in runs), limits.top_k),
        }
        for field, (name, found, limit) in asked.items():
            if found > limit:
                do = "Shorten it." if field == "prompt" else f"Lower `{field}`."
                raise OverBudget(f"This server allows up to {limit:,} {name}.", f"Found {found:,}.", do, field)
        positions = sum(load.positions for batch in batches for load in _loads(batch, models).values())
        if positions > limits.positions:
            wrong = f"This server allows up to {limits.positions:,} tokens read in one request, candidates included."
            raise OverBudget(wrong, f"{_request(batches)} That is {positions:,}.", f"Lower {_listed(_to_lower(batches))}.")

    def estimate(self, runs: Sequence[Run], models: "Models", at_once: int | None = None) -> Estimate:
        """Estimate of runs that are generated together, `at_once` answers at a time. Measures each model once, with forwards of a few positions."""
        from rgtg.models.tuning import use_threads

        use_threads(models.num_threads)
        seconds, kept_bytes, passing_bytes = 0.0, _drafts(runs), 0.0
        for name, load in _loads(runs, models).items():
            model = models.reward_model(name) if name else models.base_lm
            networks = list(_networks(model, models.base_lm))
            if model not in self._paces:
                self._paces[model] = [_pace(network) for network in networks]
            for network, pace in zip(networks, self._paces[model], strict=True):
                seconds += _positions(network, load) * pace.more + load.rounds * (-(-load.rows // at_once) if at_once else 1) * pace.first
                kept_bytes += _kept_bytes(network, load)
                passing_bytes = max(passing_bytes, _passing_bytes(network, load))
        return Estimate(seconds, (kept_bytes + passing_bytes) / GB)


# --- work of each model ----------------------------------------------------------------------------------------------


def _loads(runs: Sequence[Run], models: "Models") -> dict[str, Load]:
    """Work by the name of the model, "" for the base LM, summed over the runs."""
    from rgtg.engine import opening
    from rgtg.guidance.mixes.standards import sample_runs

    loads: dict[str, Load] = {}

    def add(name: str, prompt: int, tokens: int, rows: int, tries: int, width: int) -> None:
        before = loads.get(name, Load(0, 0, 0, 0, 0))
        positions = before.positions + prompt + rows * tokens * tries * width
        longest = max(before.length, prompt + tokens + 2 * width)
        loads[name] = Load(before.rows + rows, positions, max(before.rounds, tokens * tries), max(before.width, width), longest)

    samples = [sample for run in runs if needs_standards(run) for sample in sample_runs(run, [ref for ref, _ in run.guides])]
    for run in (*samples, *runs):
        rule, tokens = method(run.method).make(run.params), run.generation.max_new_tokens
        width = 1 + run.generation.top_k if rule.scores_candidates else 1
        add("", sum(map(len, dict.fromkeys(row_prompts(run, models.base_lm.loaded.encode_prompt)))), tokens, rule.num_rows, rule.tries_a_token, 1)
        for ref, _ in run.guides:
            add(ref.name, models.reader(ref.name).num_prompt_tokens(opening(run)), tokens, rule.num_rows, rule.tries_a_token, width)
        for ref in run.observers:
            add(ref.name, models.reader(ref.name).num_prompt_tokens(opening(run)), tokens, 1, 1, 1)
    return loads


def _positions(network: Network, load: Load) -> int:
    """Positions fed in total; without a cache every text is read from its first token."""
    return load.positions * load.length // 2 if network.backbone.strategy == "reencode" else load.positions


def _drafts(runs: Sequence[Run]) -> float:
    """Bytes of the generated tokens with their candidates."""
    sizes = ((method(run.method).make(run.params).num_rows, run.generation) for run in runs)
    return sum(rows * g.max_new_tokens * (DRAFT_BYTES + CANDIDATE_BYTES * g.top_k) for rows, g in sizes)


# --- memory and time of a network ---------------------------------------------------------------------------------------------


def _networks(model: Any, base_lm: Any = None) -> Iterator[Network]:
    """Networks of a base LM or a reward model; a model without a causal network has none and is not counted. One that asks a language model
    has that model once for each text that it adds to a response."""
    if (num_readings := getattr(model, "num_readings", None)) is not None:
        lm = model.lm or base_lm
        backbone = replace(lm.backbone, strategy="reencode")
        yield from [Network(backbone, lm.head, lm.loaded.model.config.get_text_config(), lm.loaded.vocabulary_size)] * num_readings
        return
    reference = getattr(model, "reference", None)
    for part in (getattr(model, "lm", model), *([reference] if reference is not None else [])):
        if not hasattr(part, "backbone"):
            continue
        config = part.loaded.model.config.get_text_config()
        num_outputs = config.vocab_size if hasattr(part, "token_texts") else 1
        backbone = replace(part.backbone, strategy="reencode") if record_of(model).failed else part.backbone
        yield Network(backbone, part.head, config, num_outputs)


def _pace(network: Network) -> Pace:
    """Measure on one row of zeros: the fastest of up to three forwards."""
    import torch

    def once(length: int) -> float:
        ids = torch.zeros(1, length, dtype=torch.long, device=network.backbone.device)
        started = time.perf_counter()
        network.head(network.backbone.forward(ids, None, None, None)).sum().item()  # the number comes when the device is done
        return time.perf_counter() - started

    with torch.inference_mode():
        begun, short, long = time.perf_counter(), once(1), once(MEASURED)
        for _ in range(2):
            if time.perf_counter() - begun < PATIENCE_S:
                short, long = min(short, once(1)), min(long, once(MEASURED))
    return Pace(short, max(0.0, long - short) / (MEASURED - 1))


def _size(config: Any, *names: str) -> int:
    """First of these attributes that the config has, the largest if it has one per layer; 0 for a family without attention."""
    for name in names:
        size = getattr(config, name, None)
        if size:
            return max(size) if isinstance(size, list | tuple) else int(size)
    return 0


def _entry_bytes(network: Network) -> float:
    """Bytes of one position in the cache: keys and values of all layers."""
    config = network.config
    heads = _size(config, "num_key_value_heads", "num_attention_heads")
    size = _size(config, "head_dim") or _size(config, "hidden_size") // max(1, _size(config, "num_attention_heads"))
    return 2 * network.backbone.num_layers * heads * size * network.backbone.dtype.itemsize


def _kept_bytes(network: Network, load: Load) -> float:
    """Bytes of the cache and of the last logits of every row."""
    cache = 0.0 if network.backbone.strategy == "reencode" else load.rows * load.length * _entry_bytes(network)
    return cache + load.rows * network.num_outputs * 4


def _passing_bytes(network: Network, load: Load) -> float:
    """Bytes of the largest forward: activations of one layer, logits with their softmax, and rows expanded for candidates."""
    from rgtg.models.prefixes import growing

    backbone, config = network.backbone, network.config
    part = growing.PART_ON_CPU if backbone.device.type == "cpu" else growing.PART
    # behind the last token of best-of-n all of it is read, in parts
    positions = max(load.rows, min(load.rows * max(load.length, load.width), part))
    width = _size(config, "hidden_size")
    inner = _size(config, "intermediate_size", "ffn_dim") or 4 * width
    num_bytes = positions * (8 * width + 2 * inner) * backbone.dtype.itemsize + 4.0 * min(positions, load.length) * load.length
    num_bytes += (positions if network.num_outputs == 1 else max(load.rows, min(positions, part))) * network.num_outputs * 4 * 2
    if load.width > 1 and backbone.strategy in ("rows", "states", "steps"):  # rows are expanded a layer at a time, states all at once
        layers = backbone.num_layers if backbone.strategy == "rows" else 1
        num_bytes += load.rows * load.width * load.length * _entry_bytes(network) / layers
    return num_bytes


# --- messages ---------------------------------------------------------------------------------------------------------


def _duration(seconds: float) -> str:
    """90 -> "90 s", 600 -> "10 minutes", 36000 -> "10.0 hours"."""
    if seconds <= 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 2 * 3600 else f"{seconds / 3600:,.1f} hours"


def _request(batches: Sequence[Sequence[Run]], at_once: int | None = None) -> str:
    """ "Asked for: 4 columns, 256 answers at once, 1,024 tokens, 10 candidates." Of several batches "800 columns in 20 batches, …"."""
    runs = [run for batch in batches for run in batch]
    num_rows = [[method(run.method).make(run.params).num_rows for run in batch] for batch in batches]
    rows = max(min(sum(of_batch), max(at_once or sum(of_batch), *of_batch)) for of_batch in num_rows)
    tokens, k = (max(getattr(run.generation, name) for run in runs) for name in ("max_new_tokens", "top_k"))
    columns = f"{len(runs):,} column{'s' if len(runs) > 1 else ''}" + (f" in {len(batches):,} batches" if len(batches) > 1 else "")
    return f"Asked for: {columns}, {rows:,} answer{'s' if rows > 1 else ''} at once, {tokens:,} tokens, {k} candidates."


def _listed(names: Sequence[str]) -> str:
    """["a", "b", "c"] -> "a, b or c"."""
    return " or ".join([*([", ".join(names[:-1])] if names[:-1] else []), names[-1]])


def _to_lower(batches: Sequence[Sequence[Run]]) -> list[str]:
    """Settings that make the estimate large, the largest factor first."""
    runs = [run for batch in batches for run in batch]
    sizes: dict[str, int] = {"`max_new_tokens`": max(run.generation.max_new_tokens for run in runs)}
    for run in runs:
        rule = method(run.method).make(run.params)
        for name, value in run.params:
            if type(value) is int and value > 1 and value in (rule.num_rows, rule.tries_a_token - 1):
                sizes[f"`{name}`"] = max(sizes.get(f"`{name}`", 0), value)
        if rule.scores_candidates:
            sizes["`top_k`"] = max(sizes.get("`top_k`", 0), run.generation.top_k)
    if len(runs) > 1:
        sizes["the number of columns" if len(batches) == 1 else "the number of prompts, seeds or settings"] = len(runs)
    return sorted(sizes, key=sizes.__getitem__, reverse=True)[:3]
