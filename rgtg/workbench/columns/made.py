"""Rewards that were made here, one JSON file each in the data folder: listed, added, tried, deleted.

Knows nothing of the screen. Loads no torch until a reward is added or loaded.
"""

import hashlib
import logging
import re
import threading
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rgtg.errors import BadSettings, ModelRefused, RgtgError, StoreError, door, in_words
from rgtg.models.catalog import Catalog, ModelInfo
from rgtg.records import ModelCard
from rgtg.system.files import write_json
from rgtg.system.serialization import read_json

if TYPE_CHECKING:
    from rgtg.models.lm import BaseLM
    from rgtg.rewards.made.kinds import Made, MadeRewardModel

logger = logging.getLogger(__name__)
MAX_MADE = 500
SOURCE = "made here"  # of a card
KINDS = {"base_lm": "base LM", "reward_model": "reward model", "judge": "judge"}


class MadeRewards:
    """The made rewards of an installation, in its catalog among the reward models."""

    def __init__(self, folder: Path, catalog: Catalog, public: bool = False):
        self.folder, self._catalog, self._public = folder, catalog, public
        self._lock, self._seen = threading.RLock(), -1
        self.scan()

    def scan(self) -> None:
        """List the files that were added or deleted since the last time, by this process or another."""
        with self._lock:
            try:
                changed = self.folder.stat().st_mtime_ns
            except OSError:
                changed = 0
            if changed == self._seen:
                return
            self._seen, paths = changed, sorted(self.folder.glob("[!.]*.json")) if changed else []
            listed = {info.folder_or_id: info.name for info in self.infos()}
            for place, name in listed.items():
                if Path(place) not in paths:
                    self._catalog.remove(name)
            for path in paths:
                if str(path) not in listed:
                    self._list(path)

    def _list(self, path: Path) -> ModelInfo:
        try:
            values = read_json(path)
            name, kind = values["name"], values["kind"]
            if not (isinstance(name, str) and isinstance(kind, str)):
                raise ValueError("`name` and `kind` have to be texts")
            card, wrong = ModelCard("reward_model", name, " ".join(str(values.get("about") or kind).split())[:400], SOURCE, reward_kind=kind), ""
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning("%s", in_words(error, f"{path} is not a reward."))
            name, card, wrong = path.stem, None, str(in_words(error))
        return self._catalog.insert(ModelInfo(name, "reward_model", str(path), card, wrong, reads_text=True))

    def infos(self) -> list[ModelInfo]:
        """The made rewards in the catalog, also those that cannot be used."""
        return [m for m in [*self._catalog.of_kind("reward_model"), *self._catalog.unusable()] if self.is_made(m)]

    def is_made(self, info: ModelInfo) -> bool:
        return Path(info.folder_or_id).parent == self.folder

    def names(self) -> list[str]:
        self.scan()
        return [info.name for info in self.infos()]

    def add(self, values: object, reserved: Set[str] = frozenset()) -> ModelInfo:
        """Keep the reward that an object {"name", "kind", …} defines. One that is there already is returned as it is. `reserved` holds
        names in lower case that it must not have. Raises BadSettings naming the field, StoreError."""
        from rgtg.rewards.made.kinds import made_of

        return self._keep(made_of(values), reserved)

    def add_file(self, path: Path, reserved: Set[str] = frozenset()) -> ModelInfo:
        """Keep the reward that a JSON file defines, as `add`. Raises BadData for a file that cannot be read."""
        from rgtg.rewards.made.kinds import read_made

        try:
            return self._keep(read_made(path), reserved)
        except BadSettings as error:
            raise BadSettings(f"`{path}` is not a reward: {error.wrong}", error.found, error.do, error.field) from error

    def _keep(self, made: "Made", reserved: Set[str]) -> ModelInfo:
        from rgtg.rewards.made.kinds import read_made

        if self._public:
            raise BadSettings("Rewards cannot be made on a public server.", "", "Run rgtg on your own machine.")
        with self._lock:
            self.scan()
            taken = {m.name.lower(): m for m in [*self._catalog.of_kind("base_lm", "reward_model", "judge"), *self._catalog.unusable()]}
            if (info := taken.get(made.name.lower())) is not None:
                if self.is_made(info) and not info.wrong and read_made(Path(info.folder_or_id)) == made:
                    return info
                do = "Choose another name" + (", or delete that reward first." if self.is_made(info) else ".")
                raise BadSettings(f"The name `{made.name}` is taken.", f"It is that of a {KINDS[info.kind]}.", do, "name")
            if made.name.lower() in reserved:
                raise BadSettings(f"The name `{made.name}` is taken.", "A model with this name was trained here.", "Choose another name.", "name")
            if len(self.infos()) >= MAX_MADE:
                raise BadSettings("There are too many rewards.", f"The limit is {MAX_MADE}.", "Delete some on the page Models.", "name")
            path = self.folder / file_name(made.name)
            with door(f"`{made.name}` cannot be kept.", kind=StoreError):
                write_json(path, made.plain())
            self.scan()
            return next(info for info in self.infos() if info.folder_or_id == str(path))

    def delete(self, name: str) -> None:
        """Delete a made reward. Raises BadSettings, StoreError."""
        info = next((info for info in self.infos() if info.name == name), None)
        if info is None or self._public:
            raise BadSettings(f"`{name}` was not made here.", "", "Only rewards that were made here can be deleted.")
        with door(f"`{name}` cannot be deleted.", kind=StoreError):
            Path(info.folder_or_id).unlink(missing_ok=True)
        self._catalog.remove(name)

    def load(self, info: ModelInfo, find_lm: "Callable[[str], BaseLM]") -> "MadeRewardModel":
        """The reward model of a made reward, by the name in the catalog. Raises ModelRefused."""
        from rgtg.rewards.made.kinds import read_made, reward_model_of

        try:
            return reward_model_of(replace(read_made(Path(info.folder_or_id)), name=info.name), find_lm)
        except RgtgError as error:
            raise ModelRefused(f"`{info.name}` cannot be used.", str(error), "Correct its file, or make it again.") from error


def try_reward(values: object, find_lm: "Callable[[str | None], BaseLM]", prompt: str, response: str) -> dict[str, list]:
    """Rewards of every prefix of a response by a reward that is not kept, as `rewards_along`. Raises BadSettings naming the field."""
    from rgtg.rewards.made.kinds import made_of, reward_model_of
    from rgtg.workbench.scoring import rewards_along

    return rewards_along(reward_model_of(made_of(values), find_lm), lambda: find_lm(None), prompt, response)


def describe_kinds(base_lms: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The kinds that can be made, with their fields, as JSON objects for a form; `base_lms` can be asked."""
    from dataclasses import fields

    from rgtg.docstrings import notes, summary
    from rgtg.rewards.made.definition import ASKED_MODEL
    from rgtg.rewards.made.kinds import MADE

    described = []
    for key, kind in MADE.items():
        inputs = []
        for f in fields(kind):
            meta = f.metadata
            typed = "choice" if "choices" in meta else "check" if isinstance(f.default, bool) else meta.get("input") or "number"
            more = {name: meta[name] for name in ("min", "max", "choices", "needed") if name in meta}
            if f.name == ASKED_MODEL:
                typed, more = "choice", {"choices": [["", "base LM of the run"], *([name, name] for name in base_lms)]}
            default = "" if typed in ("lines", "weights") else f.default
            inputs.append({"name": f.name, "help": meta["help"], "type": typed, "default": default, "whole": type(f.default) is int} | more)
        described.append({"key": key, "title": kind.title, "about": summary(kind), "pitfall": dict(notes(kind)).get("Pitfall", ""), "fields": inputs})
    return described


def file_name(name: str) -> str:
    """A file name for any name: its plain letters, and a hash that tells two apart."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
    return f"{plain or 'reward'}-{hashlib.sha256(name.lower().encode()).hexdigest()[:8]}.json"
