"""The catalog of installed models: names, kinds, cards and folders, read without loading weights.

Knows nothing of torch or transformers, so that a page can list models at once.
"""

import logging
import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from rgtg.errors import BadData, ModelNotFound, ModelRefused, RgtgError, door, in_words, printable
from rgtg.records import MODEL_KINDS, ModelCard
from rgtg.system.files import write_json
from rgtg.system.serialization import read_json

logger = logging.getLogger(__name__)
OWN_HEADS = (  # of sequence classifiers in transformers
    "score.weight", "classifier.weight", "classifier.out_proj.weight", "classification_head.out_proj.weight", "logits_proj.weight",
)  # fmt: skip
OTHER_HEADS = re.compile(  # names of a head in TRL, OpenRLHF, InternLM, Eurus, PKU
    r"(?:value_head|v_head|v_head\.summary|regression_head|regression_layer|reward_head|rm_head|score_head|scalar_head|classifier)\.weight"
)
MAX_LABELS = 1000
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[0-9a-f]{40})?")
PROBE = "RgtgProbe"  # architecture in the config.json of a head on a base LM's states


@dataclass(frozen=True)
class ModelInfo:
    """Installed model: its name on screen, kind, card, and folder or Hub id.

    `wrong` says why it cannot be used, "" if it can; an unusable model is listed and cannot be chosen. `labels` are the outputs of its head,
    if it has several: as a reward model it is then chosen as `NAME[label]`. One with such a head `reads_text` of any base LM; else it needs the
    base LM's token ids.
    """

    name: str
    kind: str
    folder_or_id: str
    card: ModelCard | None = None
    wrong: str = ""
    labels: tuple[str, ...] = ()
    reads_text: bool = False

    def fits(self, base_lm: str) -> bool:
        """Whether it was trained for this base LM, by its card; True without a card (tokenizers are compared when it is used)."""
        return self.card is None or not self.card.base_lm or self.card.base_lm == base_lm

    @property
    def mark(self) -> str:
        """Remark beside its name in every choice of a model: "not recommended", or ""."""
        return "not recommended" if self.card and not_recommended(self.card) else ""


def not_recommended(card: ModelCard) -> bool:
    """Whether it beats neither the previous model nor the length baseline on held-out pairs."""
    return card.metrics.get("recommended") is False


class Catalog:
    """Installed models by name: those given as arguments first, then those in `folders`, then those of the file `remembered`.

    A name that is taken gets a number. A folder that cannot be read is in `unusable`, with the reason.
    """

    def __init__(self, folders: Sequence[Path], base_lms: Sequence[str] = (), reward_models: Sequence[str] = (), remembered: Path | None = None):
        self._models: dict[str, ModelInfo] = {}
        self._remembered, self._lock = remembered, threading.RLock()
        for name in base_lms:
            self._list(name, "base_lm")
        for name in reward_models:
            self._list(name, "reward_model")
        for parent in folders:
            for folder in _model_folders(parent):
                self._list(str(folder))
        for folder_or_id, kind in self._read():
            if not os.path.isabs(folder_or_id) or is_folder(folder_or_id):  # a missing folder may come back
                self._list(folder_or_id, kind)

    def _list(self, folder_or_id: str, kind: str | None = None) -> None:
        """Add a model; one that is refused is listed as unusable, with the reason."""
        try:
            self.add(folder_or_id, kind)
        except (RgtgError, OSError, ValueError) as error:
            reason = str(in_words(error))
            logger.warning("%s", reason)
            with self._lock:
                name = self._free_name(Path(folder_or_id).name or folder_or_id)
                self._models[name] = ModelInfo(name, kind or "base_lm", printable(absolute_path_or_id(folder_or_id)), None, reason)

    def remember(self, info: ModelInfo) -> None:
        """List this model again at every start, until it is removed. Raises OSError."""
        with self._lock:
            self._write([*(entry for entry in self._read() if not _is(info, entry)), (absolute_path_or_id(info.folder_or_id), info.kind)])

    def remembered(self) -> list[str]:
        """Names of the remembered models."""
        entries = self._read()
        return [m.name for m in list(self._models.values()) if any(_is(m, entry) for entry in entries)]

    def _read(self) -> list[tuple[str, str]]:
        if self._remembered is None or not os.path.isfile(self._remembered):
            return []
        try:
            entries = read_json(self._remembered)
        except (OSError, ValueError) as error:
            logger.warning("%s cannot be read, so models that were added by hand are not listed: %s", self._remembered, error)
            return []
        pairs = [
            (entry.get("folder_or_id"), entry.get("kind")) for entry in (entries if isinstance(entries, list) else ()) if isinstance(entry, dict)
        ]
        return [(name, kind) for name, kind in pairs if isinstance(name, str) and name and "\0" not in name and kind in MODEL_KINDS]

    def _write(self, entries: Sequence[tuple[str, str]]) -> None:
        if self._remembered is not None:
            write_json(self._remembered, [{"folder_or_id": name, "kind": kind} for name, kind in entries])

    def add(self, folder_or_id: str | Path, kind: str | None = None) -> ModelInfo:
        """List a folder or Hub id; without `kind` it is read from card or config. A usable model that is already listed is returned as it is."""
        folder_or_id = absolute_path_or_id(folder_or_id)
        return self._described(folder_or_id, Path(folder_or_id) if is_folder(folder_or_id) else None, kind)

    def add_fetched(self, hub_id: str, folder: Path) -> ModelInfo:
        """List `owner/name@commit` that lies in `folder`, under its name of the Hub."""
        return self._described(hub_id, folder, None, hub_id.partition("@")[0])

    def add_refused(self, hub_id: str, reason: str) -> None:
        """List `owner/name@commit` as one that cannot be used."""
        self.insert(ModelInfo(hub_id.partition("@")[0], "base_lm", hub_id, None, reason))

    def _described(self, folder_or_id: str, folder: Path | None, kind: str | None, title: str = "") -> ModelInfo:
        """List a model as its card and its config say; `title` is its name where that is not the card's or the folder's."""
        if folder is not None and folder_or_id != printable(folder_or_id):
            raise BadData(f"`{printable(folder_or_id)}` cannot be listed.", "Its name is not UTF-8.", "Rename the folder.")
        card = ModelCard.read(folder) if folder else None
        config = read_config(folder) if folder and os.path.lexists(folder / "config.json") else {}
        if card is not None and (kind is None or card.kind == "judge"):
            kind = card.kind
        with self._lock:
            same = [m for m in self._models.values() if _same(m.folder_or_id, folder_or_id) and kind in (None, m.kind)]
            for info in same:
                if not info.wrong:
                    return info
                del self._models[info.name]  # it may be usable now
            name = self._free_name(title or (card.name.strip() if card else "") or (folder.resolve().name if folder else "") or folder_or_id)
            kind = kind or ("reward_model" if has_scalar_head(config) else "base_lm")
            reads_text = kind != "base_lm" and (card is None or has_scalar_head(config))
            info = ModelInfo(name, kind, folder_or_id, card, "", labels_in(folder) if folder and config and reads_text else (), reads_text)
            self._models[name] = info
            return info

    def insert(self, info: ModelInfo) -> ModelInfo:
        """List a model that is described already, under a name that is free."""
        with self._lock:
            info = replace(info, name=self._free_name(info.name))
            self._models[info.name] = info
            return info

    def hold(self, models: "Sequence[ModelInfo]") -> None:
        """List these models and no others."""
        with self._lock:
            self._models = {info.name: info for info in models}

    def _free_name(self, base: str) -> str:
        """`base`, with the first number that makes it unique if it is taken."""
        name, number, base = printable(base), 2, printable(base)
        while name in self._models:
            name, number = f"{base} {number}", number + 1
        return name

    def get(self, name: str, kinds: Sequence[str] = MODEL_KINDS) -> ModelInfo:
        """Model with this name, folder or Hub id. Raises ModelNotFound that lists the known names, and ModelRefused for an unusable model."""
        fitting, info = self.of_kind(*kinds), self.find(name, kinds)
        unusable = next((m for m in self.unusable() if name in (m.name, m.folder_or_id)), None)
        if info is None and unusable is not None:
            raise ModelRefused(f"`{unusable.name}` cannot be used.", unusable.wrong, "Repair it and restart.")
        if info is None:
            names = [m.name for m in fitting]
            word = "base LM" if "base_lm" in kinds and len(kinds) == 1 else "reward model" if "base_lm" not in kinds else "model"
            raise ModelNotFound(
                f"There is no {word} `{name}` on this machine.", f"Installed: {', '.join(names) or 'none'}.", "Choose one of these, or give a folder."
            )
        return info

    def find(self, name: str, kinds: Sequence[str] = MODEL_KINDS) -> ModelInfo | None:
        """Usable model with this name, folder or Hub id; None if there is none."""
        fitting = self.of_kind(*kinds)
        return next((m for m in fitting if m.name == name), None) or next((m for m in fitting if _same(m.folder_or_id, name)), None)

    def remove(self, name: str) -> None:
        """Remove a model from the list, also for later starts; its folder stays."""
        with self._lock:
            info = self._models.pop(name, None)
            if info is None:
                return
            entries = self._read()
            if any(_is(info, entry) for entry in entries):
                self._write([entry for entry in entries if not _is(info, entry)])

    def of_kind(self, *kinds: str) -> list[ModelInfo]:
        return [m for m in list(self._models.values()) if m.kind in kinds and not m.wrong]

    def unusable(self) -> list[ModelInfo]:
        """Models that cannot be used, each with the reason in `wrong`."""
        return [m for m in list(self._models.values()) if m.wrong]

    def at(self, folder: Path) -> ModelInfo | None:
        """The listed model of a folder, which need not exist any more; None if it is not listed."""
        return next((m for m in self.of_kind(*MODEL_KINDS) if m.folder_or_id == os.path.abspath(folder)), None)


def _model_folders(parent: Path) -> list[Path]:
    """Folders with a config.json, sorted by name; those whose names begin with a dot are unfinished and left out."""
    try:
        folders = sorted(parent.iterdir())
    except OSError as error:
        if os.path.exists(parent):
            logger.warning("%s", in_words(error, f"The models in {parent} cannot be listed."))
        return []
    return [folder for folder in folders if not folder.name.startswith(".") and os.path.lexists(folder / "config.json")]


def is_folder(path: str | Path) -> bool:
    """Whether a path is a folder; False for any text that cannot be a path."""
    return os.path.isdir(os.path.expanduser(path))


def is_hub_id(name: str) -> bool:
    """Whether a text has the form of a Hub id: `owner/name`, or at a commit `owner/name@…`."""
    return HUB_ID.fullmatch(name) is not None


def _same(a: str, b: str) -> bool:
    return a == b or (is_folder(a) and is_folder(b) and os.path.realpath(os.path.expanduser(a)) == os.path.realpath(os.path.expanduser(b)))


def _is(info: ModelInfo, entry: tuple[str, str]) -> bool:
    return info.kind == entry[1] and _same(info.folder_or_id, entry[0])


def absolute_path_or_id(folder_or_id: str | Path) -> str:
    """Absolute path of a folder, as the working directory may change; a Hub id unchanged."""
    return os.path.abspath(os.path.expanduser(folder_or_id)) if is_folder(folder_or_id) else str(folder_or_id)


def read_config(folder: Path) -> dict[str, Any]:
    """Content of a model folder's config.json. Raises ModelRefused if it is missing or cannot be read."""
    return config_in(folder / "config.json", str(folder))


def config_in(path: Path, name: str) -> dict[str, Any]:
    """Content of the config.json of the model `name`, checked for the types that are used before loading. Raises ModelRefused."""
    if not os.path.lexists(path):
        raise ModelRefused(f"`{name}` is not a model folder.", "There is no config.json in it.", "Give a folder saved by `save_pretrained`.")
    with door(f"`{printable(name)}` cannot be read.", "Replace its config.json with the one that belongs to its weights.", ModelRefused):
        try:
            config = read_json(path)
        except ValueError as error:
            raise ValueError(f"Its config.json is wrong: {error}") from error
        if not isinstance(config, dict):
            raise ValueError("Its config.json is no JSON object")
        names = config.get("architectures")
        if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise ValueError("`architectures` in its config.json has to be a list of names")
        for key in ("id2label", "quantization_config"):
            if not isinstance(config.get(key) or {}, dict):
                raise ValueError(f"`{key}` in its config.json has to be an object")
        return config


def has_scalar_head(config: Mapping[str, Any]) -> bool:
    """Whether a config is that of a sequence-classification model, which has a head for rewards or classes."""
    return "SequenceClassification" in (config.get("architectures") or [""])[0]


def is_probe(config: Mapping[str, Any]) -> bool:
    """Whether a config is that of a probe, whose folder holds a head alone."""
    return PROBE in (config.get("architectures") or [])


def labels_in(folder: Path) -> tuple[str, ...]:
    """Names of the outputs of a head, by the config or else by the weights; () if it has one or none. Raises ModelRefused."""
    config = read_config(folder)
    names = config.get("id2label") or {}
    if not names:  # transformers does not store its default of two labels
        num = config.get("num_labels") or _head_rows(folder)
        names = {number: f"LABEL_{number}" for number in range(num if isinstance(num, int) and num <= MAX_LABELS else 0)}
    return tuple(str(names[number]) for number in sorted(names, key=lambda key: int(key) if str(key).isdigit() else 0)) if len(names) > 1 else ()


def _head_rows(folder: Path) -> int:
    """Number of outputs of the head among the weights; 0 if there is none or the weights cannot be read."""
    try:
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, "np") as weights:
                for key in weights.keys():  # noqa: SIM118
                    if (key in OWN_HEADS or OTHER_HEADS.fullmatch(key)) and (shape := weights.get_slice(key).get_shape()):
                        return shape[0]
    except (OSError, SafetensorError):
        pass
    return 0


def split_label(name: str) -> tuple[str, str]:
    """("model", "joy") of "model[joy]"; ("model", "") of a name without a label."""
    match = re.fullmatch(r"(.+)\[([^\[\]]+)\]", name)
    return (match[1], match[2]) if match else (name, "")
