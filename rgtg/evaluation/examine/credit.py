"""Token credit: which tokens of a response raise or lower its reward, by several views side by side.

Knows rewards of prefixes, and reward models through their readers. Prints and stores nothing.
"""

import copy
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from rgtg.errors import BadData
from rgtg.evaluation.examine.reading import base_log_probs, siblings
from rgtg.models.lm import BaseLM
from rgtg.preferences.batches import Ids
from rgtg.prompts import pieces
from rgtg.rewards.base import IdReader, IdRewardModel, Opening, Reader, RewardModel
from rgtg.rewards.next_token import AutoregressiveRewardModel

log = logging.getLogger(__name__)
MOST_TOKENS = 256  # of a response that is read token by token
REWARD, DIFFERENCE, SIBLING_GAP, MINIMUM, ATTENTION, LOG_RATIO = (
    "reward", "prefix difference", "sibling gap", "running minimum", "attention", "log-ratio",
)  # fmt: skip
VIEWS = {
    REWARD: "r(y≤i), the reward of the prefix that ends with the token",
    DIFFERENCE: "r(y≤i) − r(y≤i−1); offsets between lengths are in it",
    SIBLING_GAP: "r(y≤i) less the mean reward of the base LM's top k next tokens, weighted by their probability; free of such offsets",
    MINIMUM: "the lowest reward of a prefix so far: an answer is as good as its worst prefix",
    ATTENTION: "share of the reward model's attention from the last token, last layer, mean over heads",
    LOG_RATIO: "β·log(π(y_i | …) / π_ref(y_i | …)) of a model whose reward is a sum of log probabilities",
}
Values = tuple[float | None, ...]  # one for each token; None where a view says nothing of it


@dataclass(frozen=True)
class Credit:
    """A response token by token: its `tokens` as texts, and the `views` that its model has, by their names in VIEWS."""

    tokens: tuple[str, ...]
    views: dict[str, Values]


def views(
    rewards: Sequence[float],
    expected: Sequence[float] = (),
    attention: Sequence[float] = (),
    log_ratio: Sequence[float] = (),
    empty: float | None = None,
) -> dict[str, Values]:
    """The views of one response from the rewards of its prefixes; a view without data is left out.

    `expected` is the mean reward of each token's siblings, `attention` the weight of each token, which is scaled to sum to 1 (the a_i of ABC, arXiv
    2402.00782, where a token's credit is a_i times the reward of the complete response); `empty` the reward of the empty response, None where it is
    not trained. The running minimum is the min-form of process rewards (PURE, arXiv 2504.15275).
    """
    before = (empty, *rewards[:-1])
    found: dict[str, Values] = {REWARD: tuple(rewards)}
    found[DIFFERENCE] = tuple(None if b is None else r - b for r, b in zip(rewards, before, strict=True))
    if expected:
        found[SIBLING_GAP] = tuple(r - e for r, e in zip(rewards, expected, strict=True))
    lowest: list[float] = list(accumulate(rewards, min))
    found[MINIMUM] = tuple(lowest)
    if attention and sum(attention) > 0:
        found[ATTENTION] = tuple(weight / sum(attention) for weight in attention)
    if log_ratio:
        found[LOG_RATIO] = tuple(log_ratio)
    return found


def credit(model: RewardModel, lm: BaseLM, opening: Opening, ids: Ids, k: int = 10) -> Credit:
    """The views of one response, given as the base LM's tokens; its siblings are the base LM's k most probable tokens, whose probabilities are
    scaled to sum to 1. Raises BadData where it is empty or has more than MOST_TOKENS tokens, PromptTooLong, TokenizerMismatch."""
    if not 0 < len(ids) <= MOST_TOKENS:
        raise BadData(f"An answer of 1 to {MOST_TOKENS} tokens is read token by token.", f"Found {len(ids):,}.", "Choose another one.", field="pair")
    reader = model.reads(lm)
    reader.check_fits(opening, len(ids))
    rewards = reader.along(opening, [ids])[0]
    log_probs = base_log_probs(lm, opening, ids)
    around = siblings(reader, opening, ids, range(len(ids)), log_probs, k)
    expected = [float((one.log_probs.exp() * one.rewards).sum()) for one in around]
    log_ratio: list[float] = []
    if isinstance(model, AutoregressiveRewardModel):
        own = [r - before for r, before in zip(rewards, (0.0, *rewards[:-1]), strict=True)]
        base = log_probs[torch.arange(len(ids)), torch.tensor(ids)].tolist() if model.reference is None else [0.0] * len(ids)
        log_ratio = [value - model.beta * p for value, p in zip(own, base, strict=True)]
    empty = 0.0 if isinstance(model, AutoregressiveRewardModel) else None
    tokens = pieces(lm.loaded.tokenizer, opening.ids, ids, lm.loaded.closing)
    return Credit(tuple(tokens), views(rewards, expected, attention(model, reader, opening, ids), log_ratio, empty))


def attention(model: RewardModel, reader: Reader, opening: Opening, ids: Ids) -> list[float]:
    """Attention from the last position to each token of the response: last layer with attention, mean over heads, not scaled; [] where the
    architecture has none, or the model reads other tokens.

    A copy of the modules that shares the weights is asked, since fused attention returns no weights and the model itself may be at work elsewhere.
    """
    if not isinstance(reader, IdReader) or not isinstance(model, IdRewardModel):
        return []
    network = model.loaded.model
    prompt = reader.prompt_ids(opening)
    text = torch.tensor([[*prompt, *ids]], device=network.device)
    try:
        twin = copy.deepcopy(network, {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())})
        twin.set_attn_implementation("eager")
        with torch.inference_mode():
            layers = twin.base_model(input_ids=text, output_attentions=True, use_cache=False).attentions
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:  # what architectures without it raise differs
        log.info("%s gives no attention: %s", model.name, error)
        return []
    last = next((layer for layer in reversed(layers or ()) if layer is not None), None)
    weights = last[0, :, -1, len(prompt) :].float().mean(0).tolist() if last is not None and last.ndim == 4 else []
    return weights if len(weights) == len(ids) and all(map(math.isfinite, weights)) else []
