"""A saved model folder is loaded back and asked for two fixed answers before anybody sees it in a list.

Knows nothing of jobs or of how the folder was made.
"""

import json
import math
from pathlib import Path

import torch

from rgtg.errors import BadReward
from rgtg.models.loading import load_causal_lm, load_classifier
from rgtg.prompts import encode_prompt
from rgtg.rewards.scalar import ScalarRewardModel

PROBES = (("the food was", " good ."), ("the food was", " bad ."))


def check_model(folder: Path) -> list[float]:
    """Two numbers, one for each probe: the reward of the scalar head, or the largest logit of a model that scores tokens.

    ModelRefused where the folder cannot be loaded, BadReward where a number is not finite.
    """
    architecture = (json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures") or [""])[0]
    value = _scalar(folder) if "SequenceClassification" in architecture else _largest_logit(folder)
    found = [value(prompt, answer) for prompt, answer in PROBES]
    if not all(math.isfinite(number) for number in found):
        raise BadReward("The trained model gives numbers that are not finite.", f"Found {found}.", "Train again with a smaller learning rate.")
    return found


def _scalar(folder: Path):
    model = ScalarRewardModel.of(load_classifier(str(folder), device="cpu"))
    tokenizer = model.loaded.tokenizer

    def value(prompt: str, answer: str) -> float:
        prompt_ids = encode_prompt(tokenizer, prompt)
        return model.along(prompt_ids, [encode_prompt(tokenizer, prompt + answer)[len(prompt_ids) :]])[0][-1]

    return value


def _largest_logit(folder: Path):
    loaded = load_causal_lm(str(folder), device="cpu")

    @torch.inference_mode()
    def value(prompt: str, answer: str) -> float:
        ids = torch.tensor([encode_prompt(loaded.tokenizer, prompt + answer)])
        logits = loaded.model(ids).logits[0, -1].float()
        return float(logits.max()) if bool(torch.isfinite(logits).all()) else math.nan

    return value
