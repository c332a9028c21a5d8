"""Which models are installed: folders, their kind and card, read without loading a weight.

Knows nothing of torch or transformers, so that a page can list models at once.
"""

import json
import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rgtg.errors import BadData, ModelNotFound
from rgtg.files import write_json
from rgtg.records import ModelCard

logger = logging.getLogger(__name__)
KINDS = ("base_lm", "reward_model", "judge")


@dataclass(frozen=True)
class ModelInfo:
    """An installed model: its name on screen, what it is, and where its weights are (a folder or a hub id)."""

    name: str
    kind: str
    folder_or_id: str
    card: ModelCard | None = None

    def fits(self, base_lm: str) -> bool:
        """Taught for this base LM, or without a card that says otherwise (its tokenizer is compared when it is used)."""
        return self.card is None or not self.card.base_lm or self.card.base_lm == base_lm


class Catalog:
    """All models installed, by name. Models that a person names come first, those of the file `remembered` last; a name that is
    taken gets a number."""

    def __init__(self, folders: Sequence[Path], base_lms: Sequence[str] = (), reward_models: Sequence[str] = (), remembered: Path | None = None):
        self._models: dict[str, ModelInfo] = {}
        self._remembered, self._lock = remembered, threading.Lock()
        for name in base_lms:
            self.add(name, "base_lm")
        for name in reward_models:
            self.add(name, "reward_model")
        for parent in folders:
            for folder in sorted(p for p in parent.iterdir() if (p / "config.json").is_file()) if parent.is_dir() else ():
                if not folder.name.startswith("."):
                    try:
                        self.add(str(folder))
                    except BadData as error:  # one bad folder does not hide the others
                        logger.warning("%s", error)
        for place, kind in self._read():
            try:
                if not os.path.isabs(place) or Path(place).is_dir():  # a folder that is away now may come back
                    self.add(place, kind)
            except BadData as error:
                logger.warning("%s", error)

    def remember(self, info: ModelInfo) -> None:
        """Lists this model again at every start, until it is removed. Raises OSError."""
        with self._lock:
            self._write([*(entry for entry in self._read() if not _is(info, entry)), (whole_place(info.folder_or_id), info.kind)])

    def remembered(self) -> list[str]:
        """Names of the models that are listed again at every start."""
        entries = self._read()
        return [m.name for m in list(self._models.values()) if any(_is(m, entry) for entry in entries)]

    def _read(self) -> list[tuple[str, str]]:
        if self._remembered is None or not self._remembered.is_file():
            return []
        try:
            found = [(entry["folder_or_id"], entry["kind"]) for entry in json.loads(self._remembered.read_text(encoding="utf-8"))]
            return [(place, kind) for place, kind in found if isinstance(place, str) and kind in KINDS]
        except (OSError, ValueError, TypeError, KeyError) as error:
            logger.warning("%s cannot be read, so models that were added by hand are not listed: %s", self._remembered, error)
            return []

    def _write(self, entries: Sequence[tuple[str, str]]) -> None:
        if self._remembered is not None:
            write_json(self._remembered, [{"folder_or_id": place, "kind": kind} for place, kind in entries])

    def add(self, folder_or_id: str | Path, kind: str | None = None) -> ModelInfo:
        """Lists a folder or hub id; the kind is read from its card or config where none is given. A model listed before stays."""
        folder_or_id = str(folder_or_id)
        folder = Path(folder_or_id).expanduser()
        card = ModelCard.read(folder) if folder.is_dir() else None
        if card is not None and (kind is None or card.kind == "judge"):
            kind = card.kind
        with self._lock:
            found = next((m for m in self._models.values() if _same(m.folder_or_id, folder_or_id) and kind in (None, m.kind)), None)
            if found:
                return found
            name = base = (card.name if card else "") or (folder.resolve().name if folder.is_dir() else folder_or_id)
            number = 2
            while name in self._models:
                name, number = f"{base} {number}", number + 1
            info = ModelInfo(name, kind or _kind_of(folder), folder_or_id, card)
            self._models[name] = info
            return info

    def get(self, name: str, kinds: Sequence[str] = KINDS) -> ModelInfo:
        """The model of that name, or at that folder or hub id; raises ModelNotFound with the names there are."""
        fitting = self.of_kind(*kinds)
        found = next((m for m in fitting if m.name == name), None) or next((m for m in fitting if _same(m.folder_or_id, name)), None)
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
        return [m for m in list(self._models.values()) if m.kind in kinds]

    def at(self, folder: Path) -> ModelInfo | None:
        """What is listed of a folder, which may be gone by now."""
        return next((m for m in self.of_kind(*KINDS) if m.folder_or_id == str(folder)), None)


def _same(a: str, b: str) -> bool:
    return a == b or (Path(a).is_dir() and Path(b).is_dir() and Path(a).resolve() == Path(b).resolve())


def _is(info: ModelInfo, entry: tuple[str, str]) -> bool:
    return info.kind == entry[1] and _same(info.folder_or_id, entry[0])


def whole_place(folder_or_id: str) -> str:
    """A folder by its whole path, for who reads it later may be elsewhere; a hub id as it is."""
    folder = Path(folder_or_id).expanduser()
    return str(folder.absolute()) if folder.is_dir() else str(folder_or_id)


def _kind_of(folder: Path) -> str:
    try:
        names = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures") or [""]
    except (OSError, ValueError):
        return "base_lm"
    return "reward_model" if "SequenceClassification" in names[0] else "base_lm"
