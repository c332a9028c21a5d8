"""The door for reward models: a folder or hub id becomes the kind that its card names, one with a scalar head unless told.

Knows nothing of methods, the catalog or the screen.
"""

from collections.abc import Callable

from rgtg.config import CAUSAL
from rgtg.errors import ModelRefused
from rgtg.models.lm import BaseLM
from rgtg.models.loading import load_causal_lm, load_classifier, resolve
from rgtg.records import ModelCard, ModelRef
from rgtg.rewards.base import RewardModel
from rgtg.rewards.next_token import AutoregressiveRewardModel, VocabularyRewardModel
from rgtg.rewards.scalar import ScalarRewardModel


def load_reward_model(
    name: str,
    title: str | None = None,
    device: str = "auto",
    dtype: str = "float32",
    find_reference: Callable[[ModelRef], BaseLM] | None = None,
) -> RewardModel:
    """The reward model of a folder or hub id. An implicit one asks `find_reference` for the model that it is a ratio to.

    Raises ModelNotFound or ModelRefused.
    """
    folder, _ = resolve(name)
    card = ModelCard.read(folder)
    objective = card.objective if card else ""
    if objective not in CAUSAL:
        return ScalarRewardModel.of(load_classifier(name, title, device, dtype))
    lm = BaseLM.of(load_causal_lm(name, title, device, dtype))
    if objective == "vocabulary":
        return VocabularyRewardModel(lm)
    if objective == "autoregressive":
        return AutoregressiveRewardModel(lm)
    wanted = ModelRef(*card.reference.rpartition("@")[::2])
    if find_reference is None or not wanted.name:
        do = "Add that model, or train with another objective."
        raise ModelRefused(f"`{lm.name}` is a ratio to another model.", f"Its card names `{card.reference or 'none'}`.", do)
    reference = find_reference(wanted)
    if wanted.revision and reference.loaded.ref.revision != wanted.revision:
        found = f"Its card names revision {wanted.revision}, `{reference.name}` is {reference.loaded.ref.revision}."
        raise ModelRefused(f"`{lm.name}` is a ratio to other weights of `{wanted.name}`.", found, "Add the model that it was trained from.")
    return AutoregressiveRewardModel(lm, reference, beta=float(card.training.get("beta", 0.1)))
