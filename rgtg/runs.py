"""Runs for the engine: the models of a comparison, and a run that is checked before the first forward.

Knows nothing of how columns advance, the screen or the database.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

import torch

from rgtg import __version__
from rgtg.config import GenerationConfig
from rgtg.errors import BadSettings
from rgtg.guidance.methods import method, row_prompts
from rgtg.models.lm import BaseLM
from rgtg.prompts import check_fits
from rgtg.records import Params, Run
from rgtg.rewards.base import Opening, Reader, RewardModel, check_guides
from rgtg.rewards.combine import combine

VERSIONS = (("rgtg", __version__), ("torch", torch.__version__), ("transformers", version("transformers")))
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

    def reader(self, name: str) -> Reader:
        """That reward model as a reader of the base LM. Raises TokenizerMismatch."""
        return self.reward_model(name).reads(self.base_lm)


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
        prompt, method_name, lm.loaded.ref, values, tuple((guide.ref, weight) for guide, weight in guiding), combining,
        tuple(m.ref for m in observing), generation, seed, prompt_ids, tuple(forced_ids), VERSIONS,
    )  # fmt: skip
    for ids in row_prompts(run, lm.loaded.encode_prompt)[1:]:
        check_fits(len(ids), generation.max_new_tokens, lm.name, lm.context)
    for model in (*(guide for guide, _ in guiding), *observing):
        model.reads(lm).check_fits(opening(run), generation.max_new_tokens)
    return run


def opening(run: Run) -> Opening:
    """The prompt of a run, for the reader of a reward model."""
    return Opening(run.prompt, run.prompt_ids)
