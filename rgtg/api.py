"""Python interface of rgtg: load models, compare, inspect a trace, train, and guide transformers' `generate`. See `docs/python.md`.

`import rgtg` has the same names.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rgtg.config import COLUMN_NAMES, GenerationConfig, Settings
from rgtg.engine import Ended, Models, generate, make_run
from rgtg.errors import BadSettings, RgtgError
from rgtg.guidance.methods import method, mix_of, parse_run
from rgtg.models.lm import BaseLM
from rgtg.models.loading import Loaded
from rgtg.records import ColumnSpec, Comparison, ModelCard, ModelRef, Step, Trace, new_id, now
from rgtg.rewards.next_token import AutoregressiveRewardModel
from rgtg.training.objectives import DEFAULT
from rgtg.workbench.library import Library
from rgtg.workbench.running import RunningComparison

if TYPE_CHECKING:
    from transformers import GenerationConfig as TransformersConfig

__all__ = ["compare", "guided", "load_models", "to_frame", "train"]
OWN_PROCESSORS = ("TemperatureLogitsWarper", "TopKLogitsWarper", "TopPLogitsWarper")  # settings that guidance applies itself
OWN_CRITERIA = ("MaxLengthCriteria", "EosTokenCriteria")


def load_models(
    base_lm: str | None = None, reward_models: Sequence[str] = (), *, device: str = "auto", dtype: str = "float32", reward_dtype: str | None = None
) -> Models:
    """Load a base LM and the reward models that guide or observe it.

    Args:
        base_lm: name of an installed model, a folder or a Hub id; None is the starter model.
        reward_models: the same for reward models and judges.
        device: "auto", "cpu", "cuda" or "mps".
        dtype: "float32", "bfloat16" or "float16".
        reward_dtype: "int8" quantises reward models on a CPU.

    Raises:
        ModelNotFound, ModelRefused: with what was found and what to do.
    """
    library = Library(Settings.from_environment(device=device, dtype=dtype, reward_dtype=reward_dtype))
    names = {m.name for m in library.models()}
    listed = [name if name in names else library.list_scorer(name) for name in reward_models]
    if base_lm is not None and base_lm not in names:
        base_lm = library.catalog.add(base_lm, "base_lm").name
    return library.load_models(base_lm, listed)


def compare(
    prompt: str, runs: Sequence[str | ColumnSpec], models: Models, *, observers: Sequence[str] | None = None, seed: int = 0, **generation: Any
) -> RunningComparison:
    """Prepare one prompt under several methods; iterating writes the answers, all columns together.

    Args:
        runs: a method with its settings each, as for `--run`: `"base"`, `"pargs:beta=2,reward_model=partial"`.
        models: of `load_models`. A method without `reward_model=` takes the first one trained for it.
        observers: reward models that are asked for the reward of every prefix and never guide; None means all of `models`.
        seed: the random seed that all columns share.
        generation: `max_new_tokens`, `temperature`, `top_k`, `top_p`.

    Returns:
        An iterable of (number of the column, event), where an event is a `Step`, `Working` or `Ended`; its `traces` hold what was written.

    Raises:
        RgtgError: a prompt that does not fit, an unknown method or setting, a reward model that does not fit.
    """
    if not 1 <= len(runs) <= len(COLUMN_NAMES):
        raise BadSettings(f"A comparison has 1 to {len(COLUMN_NAMES)} columns.", f"Found {len(runs)}.")
    config = _generation(generation)
    observer_names = list(models.reward_models) if observers is None else list(observers)
    models = _with_base_lm(models)
    runs_to_make = [
        make_run(prompt, spec.method, models, spec.params, _mix(spec, models), observer_names, spec.generation or config, seed, (), spec.combine)
        for spec in (parse_run(run, config, models.reward_model) if isinstance(run, str) else run for run in runs)
    ]
    traces = [Trace(new_id(), COLUMN_NAMES[i], run, place=i, created_at=now()) for i, run in enumerate(runs_to_make)]
    comparison = Comparison(new_id(), prompt, tuple(traces), created_at=now())
    return RunningComparison(comparison, traces, models, None, lambda running: None)


def _generation(settings: dict[str, Any]) -> GenerationConfig:
    try:
        return GenerationConfig(**settings)
    except TypeError:
        names = ", ".join(GenerationConfig.__dataclass_fields__)
        raise BadSettings("Unknown setting.", f"Found {', '.join(settings)}.", f"There are: {names}.") from None


def _mix(spec: ColumnSpec, models: Models) -> tuple[tuple[str, float], ...]:
    """Reward models that guide: those named, else the defaults of the method."""
    objectives = {m.name: m.objective for m in models.reward_models.values() if m.guides and m.name != models.base_lm.name}
    chosen = method(spec.method)
    return mix_of(spec, chosen.default_guide(objectives), models.base_lm.name, chosen.default_roles(objectives))


def _with_base_lm(models: Models) -> Models:
    """The same models, and the base LM among the reward models: it has a role in some methods."""
    base_lm = models.base_lm
    return replace(models, reward_models={base_lm.name: AutoregressiveRewardModel(base_lm)} | dict(models.reward_models))


def to_frame(trace: Trace, candidates: bool = False) -> pd.DataFrame:
    """A trace as a table: one row a token, or with `candidates` one row for each candidate of each token.

    Log probabilities and KL are in nats, ranks count from 1, probabilities lie between 0 and 1; each reward model has a column
    `reward_NAME`, with the reward of the prefix that ends in that token.
    """
    names = [ref.name for ref in trace.run.models]
    rows = []
    for step in trace.steps:
        for item in step.candidates if candidates else (step,):
            row = {"position": step.position, "token_id": item.token_id, "text": item.text, "log_prob": item.log_prob, "score": item.score}
            row |= {"rank_before": item.rank_before, "rank_after": item.rank_after, "prob_after": item.prob_after}
            row |= {"taken": item.token_id == step.token_id} if candidates else {"prob_before": step.prob_before, "kl": step.kl}
            rows.append(row | {f"reward_{name}": dict(item.rewards).get(name) for name in names})
    return pd.DataFrame(rows)


def train(source: str | Path, base: str, out: str | Path, *, objective: str = DEFAULT.key, device: str = "auto", **options: Any) -> ModelCard:
    """Train a reward model on preferences from a file, a folder or a data set of the Hub, and save it with its card.

    Args:
        source: rows with `prompt`, `chosen`, `rejected` or another of the common layouts.
        base: name of an installed model, a folder or a Hub id to start from.
        out: a new folder for the model.
        objective: one of OBJECTIVES.
        options: fields of `TrainingConfig` and options of the objective.

    Returns:
        The card: its `report` holds the accuracy on held-out pairs, with intervals.

    Raises:
        BadData, BadSettings, ModelRefused: with what was found and what to do.
    """
    from rgtg.training.config import TrainingConfig
    from rgtg.training.pipeline import train_file

    library, out = Library(Settings.from_environment(device=device)), Path(out)
    if out.exists():
        raise BadSettings(f"`{out}` already exists.", "", "Choose another folder.")
    installed = {m.name: m.folder_or_id for m in library.models()}
    card = train_file(str(source), installed.get(base, base), out, TrainingConfig.of({"objective": objective} | options), device=device)
    if card is None:  # another process of a distributed training writes it
        raise RgtgError("This process saves no model.", "", "Read the card in the first process.")
    return card


def guided(run: str, reward_models: Sequence[Any], tokenizer: PreTrainedTokenizerBase, *, seed: int = 0) -> Callable[..., torch.Tensor]:
    """A decoding loop for transformers: `model.generate(**inputs, custom_generate=rgtg.guided("pargs:beta=2", [reward_model], tokenizer))`.

    The prompt's ids are taken as they are. `max_new_tokens`, `do_sample`, `temperature`, `top_k` and `top_p` are those of `generate`, except
    where `run` names its own; without `do_sample` each token is the one with the highest score. A second answer to the same prompt
    (`num_return_sequences`) has the next random seed.

    Args:
        run: a method with its settings, as for `--run`.
        reward_models: values of `load_models(...).reward_models`.
        tokenizer: of the model that generates.
        seed: the random seed; the tokens are those of `compare` with it.

    Returns:
        What `generate` gives: ids of shape (batch, length of the prompt + new tokens), filled up with the pad id.

    Raises:
        BadSettings: for processors, stopping criteria and streamers of `generate`, which guidance would not apply.
    """
    rewards = {model.name: model for model in reward_models}
    lms: dict[int, BaseLM] = {}

    def decode(
        model: PreTrainedModel,
        input_ids: torch.Tensor,
        logits_processor: Sequence[Any] = (),
        stopping_criteria: Sequence[Any] = (),
        generation_config: "TransformersConfig | None" = None,
        streamer: Any = None,
        **model_inputs: Any,
    ) -> torch.Tensor:
        foreign = [type(p).__name__ for p in logits_processor if type(p).__name__ not in OWN_PROCESSORS]
        foreign += [type(c).__name__ for c in stopping_criteria if type(c).__name__ not in OWN_CRITERIA]
        if foreign or streamer is not None or generation_config is None:
            unsupported = ", ".join([*foreign, *(["a streamer"] if streamer is not None else [])])
            raise BadSettings(
                "Guided decoding applies no processors, stopping criteria or streamers of `generate`.", f"Found {unsupported}.", "Leave them out."
            )
        if id(model) not in lms:
            loaded = Loaded(ModelRef(model.name_or_path or "model"), Path(model.name_or_path or "."), model.eval(), tokenizer, None)
            lms[id(model)] = BaseLM.of(loaded)
        models = _with_base_lm(Models(lms[id(model)], rewards))
        new_ids = _written(
            models, run, _prompts(input_ids, model_inputs.get("attention_mask")), _settings(generation_config, input_ids.shape[1]), seed
        )
        pad = next(i for i in (generation_config.pad_token_id, models.base_lm.loaded.pad_id) if i is not None)
        longest = max(map(len, new_ids), default=0)
        filled = torch.tensor([ids + [pad] * (longest - len(ids)) for ids in new_ids], dtype=input_ids.dtype, device=input_ids.device)
        return torch.cat((input_ids, filled.reshape(len(new_ids), longest)), dim=1)

    return decode


def _prompts(input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> list[tuple[int, ...]]:
    """Prompt ids of each row, without padding."""
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    return [tuple(ids[in_prompt].tolist()) for ids, in_prompt in zip(input_ids, mask.bool(), strict=True)]


def _settings(config: "TransformersConfig", prompt_length: int) -> GenerationConfig:
    """Generation settings of `generate` as those of a run."""
    new_tokens = config.max_length - prompt_length
    sampling = {"temperature": float(config.temperature or 1.0), "top_p": float(config.top_p or 1.0)} if config.do_sample else {"temperature": 0.0}
    return GenerationConfig(max_new_tokens=new_tokens, **{"top_k": config.top_k} if config.top_k else {}, **sampling)  # type: ignore[arg-type]


def _written(models: Models, run: str, prompts: Sequence[tuple[int, ...]], config: GenerationConfig, seed: int) -> list[list[int]]:
    """Token ids of each answer. Raises RgtgError where a column fails."""
    spec = parse_run(run, config, models.reward_model)
    mix, runs = _mix(spec, models), []
    for number, ids in enumerate(prompts):
        text, number_of_its_prompt = str(models.base_lm.loaded.tokenizer.decode(list(ids), skip_special_tokens=True)), prompts[:number].count(ids)
        runs.append(
            make_run(text, spec.method, models, spec.params, mix, (), spec.generation or config, seed + number_of_its_prompt, (), spec.combine, ids)
        )
    new_ids: list[list[int]] = [[] for _ in runs]
    for number, event in generate(runs, models):
        if isinstance(event, Step):
            new_ids[number].append(event.token_id)
        elif isinstance(event, Ended) and event.error:
            raise RgtgError("Generation failed.", event.error)
    return new_ids
