"""A saved model folder is loaded back and asked for two fixed answers before anybody sees it in a list.

Knows nothing of jobs or of how the folder was made.
"""

import math
from pathlib import Path

from rgtg.errors import BadReward
from rgtg.models.lm import BaseLM
from rgtg.models.loading import load_causal_lm
from rgtg.prompts import encode_response
from rgtg.rewards.cards import load_reward_model

PROBES = (("the food was", " good ."), ("the food was", " bad ."))


def check_model(folder: Path, base: str = "") -> list[float]:
    """Two numbers, one for each probe: the reward of the answer. `base` is what it was trained from: folder or hub id.

    ModelRefused where the folder cannot be loaded, BadReward where a number is not finite.
    """
    model = load_reward_model(str(folder), device="cpu", find_reference=lambda ref: BaseLM.of(load_causal_lm(base, ref.name, "cpu")))
    found = []
    for prompt, answer in PROBES:
        prompt_ids = model.loaded.encode_prompt(prompt)
        response = encode_response(model.loaded.tokenizer, prompt, prompt_ids, answer, model.loaded.template[0])
        found.append(model.along(prompt_ids, [response])[0][-1])
    if not all(math.isfinite(number) for number in found):
        raise BadReward("The trained model gives numbers that are not finite.", f"Found {found}.", "Train again with a smaller learning rate.")
    return found
