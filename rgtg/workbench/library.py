"""Models of one installation, on disk and in memory; used by the workbench and the trainings.

Knows nothing of comparisons, votes, the database or the screen. Loads no model and no torch until it is asked to.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rgtg.config import STARTER_DIR, Settings
from rgtg.errors import BadSettings, ModelNotFound, ModelRefused, RgtgError, StoreError, TokenizerMismatch, door
from rgtg.guidance.methods import method
from rgtg.models.catalog import Catalog, ModelInfo, is_folder, split_label
from rgtg.models.vocabulary import check_family
from rgtg.records import ModelRef
from rgtg.system.stopping import waiting_for
from rgtg.workbench.columns.made import MadeRewards

if TYPE_CHECKING:
    from torch import Tensor

    from rgtg.engine import Models
    from rgtg.models.lm import BaseLM
    from rgtg.models.loading import Loaded
    from rgtg.rewards.base import IdRewardModel, RewardModel

logger = logging.getLogger(__name__)
SCORERS = ("reward_model", "judge")  # kinds of models that give rewards


class Library:
    """Lists models, loads them one at a time, and keeps them in memory."""

    def __init__(self, settings: Settings, base_lms: Sequence[str] = (), reward_models: Sequence[str] = ()):
        self.settings, self.given = settings, (tuple(base_lms), tuple(reward_models))
        added = None if settings.public else settings.added_models  # a public server has those of its settings
        self.catalog = Catalog([STARTER_DIR, settings.models_dir], base_lms, reward_models, added)
        self.made = MadeRewards(settings.rewards_dir, self.catalog, settings.public)
        self._in_memory: dict[str, Any] = {}
        self._chosen: dict[tuple[str, str], RewardModel] = {}  # by the names of the reward model and of its output
        self._families: dict[tuple[str, str], bool] = {}  # by the folders of a reward model and a base LM: whether their tokens are the same
        self._threads: dict[str, int] = {}  # by base LM, as measured when it was loaded
        self.notes: dict[str, str] = {}  # by model: how its matrices lie, or what int8 costs, in words
        self._loading = threading.RLock()

    # --- on disk --------------------------------------------------------------------------------------------------

    def models(self) -> list[ModelInfo]:
        """Installed base LMs, reward models and judges."""
        self.made.scan()
        return self.catalog.of_kind("base_lm", "reward_model", "judge")

    def unusable(self) -> list[ModelInfo]:
        """Installed models that cannot be used, with the reason."""
        return self.catalog.unusable()

    def base_lms(self) -> list[ModelInfo]:
        return self.catalog.of_kind("base_lm")

    def guides(self, base_lm: str | None = None) -> list[ModelInfo]:
        """Reward models that may guide this base LM, never a judge: those that were trained for it first, then those that can read its text. One
        with several outputs is there once for each. None where the base LM is not installed."""
        fitting = self.trained_for(base_lm)
        installed = any(base_lm in (None, m.name) for m in self.base_lms())
        others = [m for m in self.catalog.of_kind("reward_model") if installed and m.reads_text and m not in fitting]
        return [one for m in (*fitting, *others) for one in ([replace(m, name=f"{m.name}[{label}]") for label in m.labels] or [m])]

    def trained_for(self, base_lm: str | None = None) -> list[ModelInfo]:
        """Reward models that were trained for this base LM, as far as card and tokens show."""
        return self._fitting("reward_model", base_lm)

    def language_models(self, base_lm: str | None = None) -> list[ModelInfo]:
        """Base LMs with the tokens of this one, itself among them: what may have a role in a method."""
        return self._fitting("base_lm", base_lm)

    def judges(self, base_lm: str | None = None) -> list[ModelInfo]:
        """Reward models that only observe."""
        return self._fitting("judge", base_lm)

    def _fitting(self, kind: str, base_lm: str | None) -> list[ModelInfo]:
        """Models of a kind that were trained for a base LM, as far as card and tokens show."""
        self.made.scan()
        lm = next((m for m in self.base_lms() if base_lm in (None, m.name)), None)
        return [m for m in self.catalog.of_kind(kind) if lm and m.fits(lm.name) and self._shares_tokens(m, lm)]

    def _shares_tokens(self, info: ModelInfo, lm: ModelInfo) -> bool:
        """Whether the two models have the same tokens, as far as their files show."""
        folders = info.folder_or_id, lm.folder_or_id
        if folders not in self._families:
            try:
                check_family((info.name, folder_of(info)), (lm.name, folder_of(lm)))
                self._families[folders] = True
            except TokenizerMismatch:
                self._families[folders] = False
        return self._families[folders]

    def default_base_lm(self) -> str:
        """Name of the first base LM; raises RgtgError where none is installed."""
        base_lms = self.base_lms()
        if not base_lms:
            raise RgtgError("No base LM is installed.", "", "Start with `--base-lm DIR|ID`, or make data/starter with `python -m rgtg starter`.")
        return base_lms[0].name

    def guide_for(self, method_name: str, base_lm: str | None = None) -> str | None:
        """Default reward model of a method, see `Method.default_guide`."""
        fitting = self._fitting("reward_model", base_lm)
        return method(method_name).default_guide({m.name: m.card.objective if m.card else "" for m in fitting if not m.labels})

    def roles_for(self, method_name: str, base_lm: str | None = None) -> dict[str, str]:
        """Default models of a method's roles, see `Method.default_roles`."""
        return method(method_name).default_roles({m.name: m.card.objective if m.card else "" for m in self.guides(base_lm)})

    def scorer(self, name: str) -> ModelInfo:
        """The reward model or judge of that name, folder or hub id, or else the base LM, whose log probabilities can be rewards."""
        name, _ = self._split_label(name)
        base_lm = self.catalog.find(name, ("base_lm",)) if self.catalog.find(name, SCORERS) is None else None
        return base_lm or self.catalog.get(name, SCORERS)

    def _split_label(self, name: str) -> tuple[str, str]:
        """("model", "joy") of "model[joy]"; a model or folder that is really called so goes first."""
        return (name, "") if self.catalog.find(name) or is_folder(name) else split_label(name)

    def list_scorer(self, folder_or_id: str, language_model: bool = False) -> str:
        """Name of the model in a folder or of a Hub id that is to give rewards, listed if it is new: as a reward model, or, where a
        `language_model` is wanted and it has no scalar head, as a base LM."""
        folder_or_id, label = self._split_label(folder_or_id)
        behind = f"[{label}]" if label else ""
        if (known := self.catalog.find(folder_or_id, (*SCORERS, "base_lm"))) is not None:
            return known.name + behind
        from rgtg.models.weights import is_language_model

        folder = Path(folder_or_id).expanduser()
        kind = "base_lm" if language_model and is_folder(folder) and is_language_model(folder) else SCORERS[0]
        return self.catalog.add(folder_or_id, kind).name + behind

    def add(self, folder_or_id: str, kind: str, reserved: Set[str] = frozenset()) -> ModelInfo:
        """Add a folder or Hub id to the installed models, permanently, and load it, so that an unusable model is refused at once.

        `reserved` holds names in lower case that a new model must not have. Raises RgtgError, always in public mode.
        """
        if self.settings.public:
            raise BadSettings("Models cannot be added on a public server.", "", "Run rgtg on your own machine.")
        if kind not in ("base_lm", "reward_model"):
            raise BadSettings("A model is a base LM or a reward model.", f"Found `{kind}`.")
        before = {m.name for m in self.models()}
        info = self.catalog.add(folder_or_id, kind)
        try:
            if info.name not in before and info.name.lower() in reserved:
                raise BadSettings(
                    f"The name `{info.name}` is taken.",
                    "A model with this name is being trained or was trained.",
                    "Change the name in the card of the new model.",
                )
            self.load(info)
        except Exception:
            if info.name not in before:
                self.forget(info.name)
            raise
        if info.name not in before:
            with door(f"`{info.name}` is here until the next start: the list of added models cannot be written.", kind=StoreError):
                self.catalog.remember(info)
        return info

    def load_allowed(self) -> None:
        """Fetch, check, list and load the models of a public server's settings, each at its commit; one that fails is listed with the reason."""
        from rgtg.models.loading import resolve

        for hub_id in self.settings.allowed_models if self.settings.public else ():
            folder, listed = None, None
            try:
                with door(f"`{hub_id}` cannot be used.", kind=ModelRefused):
                    folder, _ = resolve(hub_id)
                    listed = self.catalog.add_fetched(hub_id, folder)
                    self.load(listed)
            except RgtgError as error:
                logger.warning("%s", error)
                if listed is not None:
                    self.forget(listed.name)
                self.catalog.add_refused(hub_id, str(error).replace(str(folder), hub_id) if folder else str(error))

    def added(self) -> list[str]:
        """Names of the models that were added by hand; these can be removed from the list."""
        return self.catalog.remembered()

    def take_off(self, name: str) -> None:
        """Remove a model from the list and from memory; its folder stays. Raises BadSettings."""
        if name not in self.added():
            raise BadSettings(f"`{name}` was not added by hand.", "", "Models that ship stay; one that was trained here can be deleted.")
        self.forget(name)

    def delete_made(self, name: str) -> None:
        """Delete a reward that was made here. Raises BadSettings."""
        self.made.delete(name)
        self.forget(name)

    def forget(self, name: str) -> None:
        """Remove a model from all lists and from memory."""
        self.catalog.remove(name)
        for by_name in (self._in_memory, self._threads, self.notes):
            by_name.pop(name, None)
        self._chosen = {key: model for key, model in self._chosen.items() if key[0] != name}

    # --- in memory ------------------------------------------------------------------------------------------------

    def in_memory(self) -> list[str]:
        """Names of the loaded models."""
        return list(self._in_memory)

    def base_lm(self, name: str | None = None) -> "BaseLM":
        """The base LM of that name, folder or hub id, in memory; None is the default one. Raises RgtgError."""
        from rgtg.models.lm import BaseLM
        from rgtg.models.loading import load_causal_lm

        info = self.catalog.get(name or self.default_base_lm(), ("base_lm",))
        device_and_dtype = self.settings.device, self.settings.dtype
        return self._load(info, lambda: self._tuned(BaseLM.of(load_causal_lm(info.folder_or_id, info.name, *device_and_dtype))))

    def reward_model(self, name: str) -> "RewardModel":
        """The reward model or judge of that name, folder or hub id, in memory; a base LM as a next-token reward. Raises RgtgError."""
        from rgtg.rewards.base import WithWeights
        from rgtg.rewards.next_token import AutoregressiveRewardModel

        info, (_, label) = self.scorer(name), self._split_label(name)
        model = AutoregressiveRewardModel(self.base_lm(info.name)) if info.kind == "base_lm" else self._reward_weights(info)  # the same weights
        if isinstance(model, WithWeights):
            if label:
                chosen = model.of_label(label)
                return self._chosen.setdefault((info.name, chosen.name), chosen)  # the same object, so that what is measured of it stays
            model.check_one_output()
        return model

    def _reward_weights(self, info: ModelInfo) -> "RewardModel":
        """The reward model of an entry, in memory; of a head with several outputs none is chosen."""
        from rgtg.rewards.kinds import load_reward_model

        if self.made.is_made(info):
            return self._made_reward(info)
        device_and_dtype = self.settings.device, self.settings.dtype
        return self._load(info, lambda: self._tuned(load_reward_model(info.folder_or_id, info.name, *device_and_dtype, self._reference)))

    def _made_reward(self, info: ModelInfo) -> "RewardModel":
        with waiting_for(self._loading):
            if info.name not in self._in_memory:
                self._in_memory[info.name] = self.made.load(info, self.base_lm)
            return self._in_memory[info.name]

    def _tuned(self, model: Any) -> Any:
        """Optimise a newly loaded model for this machine; what was done is logged and kept in `notes`."""
        from rgtg.models import tuning
        from rgtg.models.lm import BaseLM
        from rgtg.rewards.base import IdRewardModel

        if isinstance(model, IdRewardModel) and not model.owns_weights:
            return model
        name, weights = model.name, model.loaded.model
        if isinstance(model, IdRewardModel) and self.settings.reward_dtype == "int8":
            self.notes[name] = str(tuning.quantise(weights, weights.base_model, name, lambda: sample_rewards(model)))
        else:
            tokens = tuning.LM_TOKENS if isinstance(model, BaseLM) else tuning.REWARD_TOKENS
            if self.settings.tuned and (tuned := tuning.tune_matrices(weights, tokens)).changed:
                self.notes[name] = str(tuned)
        if isinstance(model, BaseLM):
            number = tuning.num_weights(weights)
            self._threads[name] = tuning.choose_threads(model.one_token, number) if self.settings.tuned else tuning.fixed_threads(number)
        if note := "; ".join(filter(None, (model.loaded.remark, self.notes.get(name)))):
            self.notes[name] = note
            logger.info("%s: %s", name, note)
        return model

    def _reference(self, ref: ModelRef) -> "BaseLM":
        """Reference model of an implicit reward."""
        info = self.catalog.get(ref.name)
        model = self.load(info)
        lm = model if info.kind == "base_lm" else getattr(model, "lm", None)
        if lm is None:
            raise ModelRefused(f"`{ref.name}` cannot be a reference.", "It has a scalar head in place of the vocabulary's.")
        return lm

    def load(self, info: ModelInfo) -> Any:
        """The BaseLM or reward model behind an entry of the catalog, in memory; raises RgtgError where it is refused."""
        return self.base_lm(info.name) if info.kind == "base_lm" else self._reward_weights(info)

    def loaded(self, info: ModelInfo) -> "Loaded":
        """Weights and tokenizer of a model."""
        return self.load(info).loaded

    def load_models(self, base_lm: str | None = None, reward_models: Sequence[str] = ()) -> "Models":
        """A base LM and reward models, loaded; raises RgtgError naming what is missing or refused."""
        from rgtg.engine import Models

        self._check_tokens(base_lm or self.default_base_lm(), reward_models)
        lm = self.base_lm(base_lm)
        guides = {m.name: m for m in (self.reward_model(name) for name in dict.fromkeys(reward_models))}
        return Models(lm, guides, self._threads.get(lm.name, 0))

    def _check_tokens(self, base_lm: str, reward_models: Sequence[str]) -> None:
        """Check the tokenizers before weights are loaded. Raises TokenizerMismatch where the files show different tokens."""
        lm = self.catalog.get(base_lm, ("base_lm",))
        for info in map(self.scorer, dict.fromkeys(reward_models)):
            if not info.reads_text and (info.name not in self._in_memory or lm.name not in self._in_memory):
                check_family((info.name, folder_of(info)), (lm.name, folder_of(lm)))

    def _load(self, info: ModelInfo, load: Callable[[], Any]) -> Any:
        if (model := self._in_memory.get(info.name)) is not None:  # whatever else is being loaded
            return model
        from rgtg.models.loading import enter

        if info.name == info.folder_or_id or not os.path.isabs(info.folder_or_id) or is_folder(info.folder_or_id):
            with door(f"`{info.name}` cannot be used.", "Choose another model.", ModelRefused):
                enter(info.folder_or_id, info.name)  # tried, and fetched, before others have to wait for it
        with waiting_for(self._loading):  # one at a time
            if (model := self._in_memory.get(info.name)) is None:
                started = time.perf_counter()
                if info.name != info.folder_or_id and os.path.isabs(info.folder_or_id) and not is_folder(info.folder_or_id):
                    reason, do = f"Its folder {info.folder_or_id} no longer exists.", "Put it back, or remove the model from the list."
                    raise ModelNotFound(f"`{info.name}` is gone.", reason, do)
                with door(f"`{info.name}` cannot be used.", "Choose another model.", ModelRefused):
                    model = load()
                logger.info("loaded %s in %.2f s", info.name, time.perf_counter() - started)
                if info in self.catalog.of_kind(info.kind):  # else it was taken off the list meanwhile
                    self._in_memory[info.name] = model
            return model


def sample_rewards(model: "IdRewardModel") -> "Tensor":
    """Rewards of every prefix of four fixed texts, to measure the error of int8: (prefixes,)."""
    import torch

    ids = torch.randint(0, model.loaded.vocabulary_size, (4, 25), generator=torch.Generator().manual_seed(0)).tolist()
    return torch.tensor([reward for first, *text in ids for reward in model.along([first], [text])[0]])


def ships(info: ModelInfo) -> bool:
    """Whether it is one of the starter models."""
    return STARTER_DIR in Path(os.path.realpath(info.folder_or_id)).parents


def children(info: ModelInfo, models: Sequence[ModelInfo]) -> list[str]:
    """Names of the models that were trained from this one."""
    return [m.name for m in models if m.card and info.name in (m.card.base_lm, m.card.parent) and m.name != info.name]


def folder_of(info: ModelInfo) -> Path:
    """Its folder; of a model of the Hub the one that it was fetched to, if it was."""
    if is_folder(info.folder_or_id) or os.path.isabs(info.folder_or_id):
        return Path(info.folder_or_id)
    from huggingface_hub import try_to_load_from_cache

    repository, _, commit = info.folder_or_id.partition("@")
    cached = try_to_load_from_cache(repository, "config.json", os.environ.get("HF_HUB_CACHE"), revision=commit or None)
    return Path(cached).parent if isinstance(cached, str) else Path(info.folder_or_id)


def size(info: ModelInfo) -> int | None:
    """Bytes on disk; None where the model is not on this machine."""
    folder = folder_of(info)
    try:
        return sum(entry.stat().st_size for entry in os.scandir(folder) if entry.is_file()) if is_folder(folder) else None
    except OSError:  # it has just disappeared
        return None
