"""Which models are installed: folders, their kind and card, read without loading a weight.

Knows nothing of torch or transformers, so that a page can list models at once.
"""

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rgtg.errors import BadData, ModelNotFound, ModelRefused, RgtgError, door, in_words, printable
from rgtg.records import MODEL_KINDS, ModelCard
from rgtg.system.files import write_json
from rgtg.system.serialization import read_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelInfo:
    """An installed model: its name on screen, what it is, and where its weights are (a folder or a hub id).

    `wrong` says why it cannot be used, where it cannot; such a model is listed and never chosen.
    """

    name: str
    kind: str
    folder_or_id: str
    card: ModelCard | None = None
    wrong: str = ""

    def fits(self, base_lm: str) -> bool:
        """Taught for this base LM, or without a card that says otherwise (its tokenizer is compared when it is used)."""
        return self.card is None or not self.card.base_lm or self.card.base_lm == base_lm

    @property
    def mark(self) -> str:
        """What stands beside its name wherever a model is chosen: that its report speaks against it."""
        return "not recommended" if self.card and not_recommended(self.card) else ""


def not_recommended(card: ModelCard) -> bool:
    """Whether the held-out pairs speak against it: no better than before, nor than length alone."""
    return card.metrics.get("recommended") is False


class Catalog:
    """All models installed, by name. Models that a person names come first, those of the file `remembered` last; a name that is
    taken gets a number. A folder that cannot be read hides no other: it is in `unusable`, with what is wrong."""

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
        for place, kind in self._read():
            if not os.path.isabs(place) or is_folder(place):  # a folder that is away now may come back
                self._list(place, kind)

    def _list(self, folder_or_id: str, kind: str | None = None) -> None:
        """As `add`; where that is refused, what is wrong stands beside the name."""
        try:
            self.add(folder_or_id, kind)
        except (RgtgError, OSError, ValueError) as error:
            words = str(in_words(error))
            logger.warning("%s", words)
            with self._lock:
                name = self._free_name(Path(folder_or_id).name or folder_or_id)
                self._models[name] = ModelInfo(name, kind or "base_lm", printable(whole_place(folder_or_id)), None, words)

    def remember(self, info: ModelInfo) -> None:
        """Lists this model again at every start, until it is removed. Raises OSError."""
        with self._lock:
            self._write([*(entry for entry in self._read() if not _is(info, entry)), (whole_place(info.folder_or_id), info.kind)])

    def remembered(self) -> list[str]:
        """Names of the models that are listed again at every start."""
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
        found = [
            (entry.get("folder_or_id"), entry.get("kind")) for entry in (entries if isinstance(entries, list) else ()) if isinstance(entry, dict)
        ]
        return [(place, kind) for place, kind in found if isinstance(place, str) and place and "\0" not in place and kind in MODEL_KINDS]

    def _write(self, entries: Sequence[tuple[str, str]]) -> None:
        if self._remembered is not None:
            write_json(self._remembered, [{"folder_or_id": place, "kind": kind} for place, kind in entries])

    def add(self, folder_or_id: str | Path, kind: str | None = None) -> ModelInfo:
        """Lists a folder or hub id; the kind is read from its card or config where none is given. A model listed before stays."""
        folder_or_id = whole_place(folder_or_id)
        folder = Path(folder_or_id) if is_folder(folder_or_id) else None
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
                del self._models[info.name]  # it was mended
            name = self._free_name((card.name.strip() if card else "") or (folder.resolve().name if folder else "") or folder_or_id)
            info = ModelInfo(name, kind or ("reward_model" if has_scalar_head(config) else "base_lm"), folder_or_id, card)
            self._models[name] = info
            return info

    def _free_name(self, base: str) -> str:
        """`base`, or with the first number that makes it nobody's."""
        name, number, base = printable(base), 2, printable(base)
        while name in self._models:
            name, number = f"{base} {number}", number + 1
        return name

    def get(self, name: str, kinds: Sequence[str] = MODEL_KINDS) -> ModelInfo:
        """The model of that name, or at that folder or hub id; raises ModelNotFound with the names there are."""
        fitting = self.of_kind(*kinds)
        found = next((m for m in fitting if m.name == name), None) or next((m for m in fitting if _same(m.folder_or_id, name)), None)
        unusable = next((m for m in self.unusable() if name in (m.name, m.folder_or_id)), None)
        if found is None and unusable is not None:
            raise ModelRefused(f"`{unusable.name}` cannot be used.", unusable.wrong, "Mend it and start again.")
        if found is None:
            there = [m.name for m in fitting]
            word = "base LM" if "base_lm" in kinds and len(kinds) == 1 else "reward model" if "base_lm" not in kinds else "model"
            raise ModelNotFound(
                f"There is no {word} `{name}` on this machine.", f"Installed: {', '.join(there) or 'none'}.", "Choose one of these, or give a folder."
            )
        return found

    def remove(self, name: str) -> None:
        """Out of the list, at the next start too; the folder stays as it is."""
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
        """Models that were found and cannot be used, each with what is wrong."""
        return [m for m in list(self._models.values()) if m.wrong]

    def at(self, folder: Path) -> ModelInfo | None:
        """What is listed of a folder, which may be gone by now."""
        return next((m for m in self.of_kind(*MODEL_KINDS) if m.folder_or_id == os.path.abspath(folder)), None)


def _model_folders(parent: Path) -> list[Path]:
    """Folders with a config.json, by name; those whose name begins with a dot are unfinished."""
    try:
        found = sorted(parent.iterdir())
    except OSError as error:
        if os.path.exists(parent):
            logger.warning("%s", in_words(error, f"The models in {parent} cannot be listed."))
        return []
    return [folder for folder in found if not folder.name.startswith(".") and os.path.lexists(folder / "config.json")]


def is_folder(place: str | Path) -> bool:
    """Whether it is a folder that can be looked at; whatever the text is, too long or with characters that no path has."""
    return os.path.isdir(os.path.expanduser(place))


def _same(a: str, b: str) -> bool:
    return a == b or (is_folder(a) and is_folder(b) and os.path.realpath(os.path.expanduser(a)) == os.path.realpath(os.path.expanduser(b)))


def _is(info: ModelInfo, entry: tuple[str, str]) -> bool:
    return info.kind == entry[1] and _same(info.folder_or_id, entry[0])


def whole_place(folder_or_id: str | Path) -> str:
    """A folder by its whole path, for who reads it later may be elsewhere; a hub id as it is."""
    return os.path.abspath(os.path.expanduser(folder_or_id)) if is_folder(folder_or_id) else str(folder_or_id)


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model folder. Raises ModelRefused where there is none, or none that can be read."""
    return config_in(folder / "config.json", str(folder))


def config_in(path: Path, name: str) -> dict[str, Any]:
    """A config.json of the model `name`: an object with a list of names as `architectures`, if it has that. Raises ModelRefused."""
    if not os.path.lexists(path):
        raise ModelRefused(f"`{name}` is no model folder.", "There is no config.json in it.", "Give a folder saved by `save_pretrained`.")
    with door(f"`{printable(name)}` cannot be read.", "Put the config.json there that belongs to its weights.", ModelRefused):
        try:
            found = read_json(path)
        except ValueError as error:
            raise ValueError(f"Its config.json is wrong: {error}") from error
        if not isinstance(found, dict):
            raise ValueError("Its config.json is no JSON object")
        names = found.get("architectures")
        if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise ValueError("`architectures` in its config.json has to be a list of names")
        for key in ("id2label", "quantization_config"):
            if not isinstance(found.get(key) or {}, dict):
                raise ValueError(f"`{key}` in its config.json has to be an object")
        return found


def has_scalar_head(config: Mapping[str, Any]) -> bool:
    """Whether a config is of a model with a head for rewards or classes in place of the vocabulary's."""
    return "SequenceClassification" in (config.get("architectures") or [""])[0]
