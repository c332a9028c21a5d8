"""Rewards of every prefix of a given response.

Works on loaded models. Knows nothing of methods, the database or the screen.
"""

import math
from collections.abc import Callable

from rgtg.errors import BadSettings
from rgtg.models.lm import BaseLM
from rgtg.prompts import check_fits, pieces
from rgtg.rewards.base import IdRewardModel, Opening, RewardModel, not_finite


def rewards_along(model: RewardModel, base_lm: Callable[[], BaseLM], prompt: str, response: str, complete: bool = False) -> dict[str, list]:
    """{"tokens": [text, …], "rewards": [float, …]}, one for each token of a response: its own tokens for a model that reads ids, those of the
    base LM, which is loaded for that, for one that reads text.

    The last entry is that of the text; of a `complete` answer, that with the tokens that end it, which add no text. Raises
    BadSettings where there is nothing to score, or no token to end it.
    """
    writer = model if isinstance(model, IdRewardModel) else base_lm()
    loaded = writer.loaded
    prompt_ids = loaded.encode_prompt(prompt)
    ids = loaded.encode_response(prompt, prompt_ids, response)
    if complete and not loaded.closing:
        raise BadSettings(f"`{model.name}` cannot score a complete answer.", "Its tokenizer has no end token.", "Score the text alone.")
    ids += loaded.closing if complete else ()
    if not ids:
        raise BadSettings("The response is empty.", "", "Give a text to score.")
    if isinstance(writer, BaseLM):
        rewards = model.reads(writer).along(Opening(prompt, prompt_ids), [ids])[0]
    else:
        check_fits(len(prompt_ids), len(ids), model.name, writer.context)
        rewards = writer.along(prompt_ids, [ids])[0]
    if wrong := [number for number, reward in enumerate(rewards, 1) if not math.isfinite(reward)]:
        raise not_finite(model.name, f"at token {wrong[0]}")
    return {"tokens": pieces(loaded.tokenizer, prompt_ids, ids, loaded.closing), "rewards": rewards}
