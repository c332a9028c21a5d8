"""The registry of reward kinds: KINDS maps each kind to its class, and a folder or Hub id is loaded as the kind its card names.

A new kind needs its class, its loader and one line in KINDS. Knows nothing of methods, the catalog or the screen.
"""

from collections.abc import Callable

from rgtg.errors import ModelRefused, NotADecoder
from rgtg.models.lm import BaseLM
from rgtg.models.loading import load_causal_lm, load_classifier, resolve
from rgtg.records import ModelCard, ModelRef
from rgtg.rewards.base import RewardModel
from rgtg.rewards.encoder import EncoderRewardModel
from rgtg.rewards.next_token import AutoregressiveRewardModel, VocabularyRewardModel
from rgtg.rewards.probe import ProbeRewardModel, load_probe
from rgtg.rewards.scalar import ScalarRewardModel

FindReference = Callable[[ModelRef], BaseLM] | None
Loader = Callable[[str, str | None, str, str, FindReference], RewardModel]


def load_reward_model(
    name: str, title: str | None = None, device: str = "auto", dtype: str = "float32", find_reference: FindReference = None
) -> RewardModel:
    """Load the reward model of a folder or Hub id; `find_reference` loads the reference model of an implicit reward, and the base LM of a probe.

    Raises ModelNotFound or ModelRefused.
    """
    folder, _ = resolve(name)
    return KINDS[kind_of(ModelCard.read(folder))](name, title, device, dtype, find_reference)


def kind_of(card: ModelCard | None) -> str:
    """Kind of a reward model by its card. Older cards name only the objective, which is the kind wherever there is no scalar head.

    Raises ModelRefused where the card names a kind that is not known.
    """
    if card and card.reward_kind and card.reward_kind not in KINDS:
        wrong, do = f"`{card.name}` is of a kind of reward model that is not known here.", "Correct `reward_kind` in its card.json."
        raise ModelRefused(wrong, f"Its card names `{card.reward_kind}`; known: {', '.join(KINDS)}.", do)
    kind = (card.reward_kind or card.objective) if card else ""
    return kind if kind in KINDS else next(iter(KINDS))


def _scalar(
    name: str, title: str | None, device: str, dtype: str, find_reference: FindReference
) -> ScalarRewardModel | EncoderRewardModel:  # the first is what it is for
    loaded = load_classifier(name, title, device, dtype)
    try:
        return ScalarRewardModel.of(loaded)
    except NotADecoder:  # by its outputs; what a family is called tells little
        return EncoderRewardModel.of(loaded)


def _encoder(name: str, title: str | None, device: str, dtype: str, find_reference: FindReference) -> EncoderRewardModel:
    return EncoderRewardModel.of(load_classifier(name, title, device, dtype))


def _vocabulary(name: str, title: str | None, device: str, dtype: str, find_reference: FindReference) -> VocabularyRewardModel:
    return VocabularyRewardModel(BaseLM.of(load_causal_lm(name, title, device, dtype)))


def _autoregressive(name: str, title: str | None, device: str, dtype: str, find_reference: FindReference) -> AutoregressiveRewardModel:
    """A causal LM whose log probabilities add up to the reward."""
    return AutoregressiveRewardModel(BaseLM.of(load_causal_lm(name, title, device, dtype)))


def _implicit(name: str, title: str | None, device: str, dtype: str, find_reference: FindReference) -> AutoregressiveRewardModel:
    """A causal LM together with the model that it was trained from; the log-ratio of the two is the reward."""
    lm = BaseLM.of(load_causal_lm(name, title, device, dtype))
    reference = _other(lm.name, lm.loaded.card, find_reference, "reference model")
    return AutoregressiveRewardModel(lm, reference, beta=float(lm.loaded.card.training.get("beta", 0.1) if lm.loaded.card else 0.1))


def _probe(name: str, title: str | None, device: str, dtype: str, find_reference: FindReference) -> ProbeRewardModel:
    return load_probe(name, title, lambda title, card: _other(title, card, find_reference, "base LM"))


def _other(name: str, card: ModelCard | None, find_reference: FindReference, role: str) -> BaseLM:
    """The other model that a reward model needs, by its card, with the very weights that it was trained with. Raises ModelRefused."""
    wanted = ModelRef(*(card.reference if card else "").rpartition("@")[::2])
    if card is None or find_reference is None or not wanted.name:
        named, do = (card.reference if card else "") or "none", "Add that model, or train with another objective."
        raise ModelRefused(f"`{name}` needs its {role}, which is not here.", f"Its card names `{named}`.", do)
    other = find_reference(wanted)
    if wanted.revision and other.loaded.ref.revision != wanted.revision:
        revisions = f"Its card names revision {wanted.revision}, `{other.name}` has revision {other.loaded.ref.revision}."
        raise ModelRefused(
            f"`{name}` needs other weights of its {role.removesuffix(' model')} `{wanted.name}`.",
            revisions,
            "Add the model that it was trained from.",
        )
    return other


KINDS: dict[str, Loader] = {  # the first is the default, for a model whose card names no kind
    "scalar": _scalar,
    "encoder": _encoder,
    "vocabulary": _vocabulary,
    "autoregressive": _autoregressive,
    "implicit": _implicit,
    "probe": _probe,
}
