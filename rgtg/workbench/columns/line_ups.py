"""Line-ups: named sets of columns, those that ship in data/presets and one's own in the data folder, as JSON files.

A file holds a title, a sentence, and the columns as `--run` takes them. Knows nothing of loaded models or of the screen.
"""

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rgtg.config import COLUMN_NAMES, MAX_COLUMNS, PRESETS_DIR, GenerationConfig
from rgtg.errors import BadData, BadSettings, RgtgError, StoreError, door
from rgtg.guidance.methods import METHODS, parse_run
from rgtg.models.catalog import is_folder
from rgtg.records import ColumnSpec
from rgtg.system.files import write_json
from rgtg.system.serialization import check_types, parse_json, read_json
from rgtg.workbench.columns.copying import run_text

if TYPE_CHECKING:
    from rgtg.workbench.library import Library

MAX_TITLE, MAX_ABOUT, MAX_RUN, MAX_OWN = 60, 300, 2_000, 200
PLACE = re.compile(r"\{(\w+)\}")  # of a model that `models` names


@dataclass(frozen=True)
class LineUp:
    """A named set of columns, as text for `--run`. In them `{first}` is the name that `models` gives to it.

    `key` is the name of its file, by which it is chosen; `ships` tells those of data/presets from one's own.
    """

    title: str
    columns: tuple[str, ...]
    about: str = ""
    models: dict[str, str] = field(default_factory=dict, hash=False)
    key: str = ""
    ships: bool = False

    def specs(self, generation: GenerationConfig = GenerationConfig()) -> list[ColumnSpec]:
        """Settings of its columns; `generation` are those of the comparison, which a column may override."""
        return [parse_run(PLACE.sub(lambda place: self.models[place[1]], text), generation) for text in self.columns]

    def plain(self) -> dict[str, Any]:
        """Content of its file."""
        about, models = {"about": self.about} if self.about else {}, {"models": self.models} if self.models else {}
        return {"title": self.title, **about, **models, "columns": list(self.columns)}

    @classmethod
    def of(cls, content: Any, key: str = "", ships: bool = False) -> "LineUp":
        """The line-up that a file's content describes. Raises ValueError or RgtgError naming what is wrong."""
        check_types(cls, content)
        if unknown := content.keys() - {"title", "about", "models", "columns"}:
            raise ValueError(f"`{min(unknown):.40}` is not a part of a line-up, which has title, about, models and columns")
        title, about, columns, models = content.get("title", ""), content.get("about", ""), content.get("columns", ()), content.get("models", {})
        if not _is_title(title):
            raise ValueError(f"`title` has to be one line of 1 to {MAX_TITLE} characters")
        if len(about) > MAX_ABOUT or (about and not about.isprintable()):
            raise ValueError(f"`about` has to be one line of at most {MAX_ABOUT} characters")
        if not 1 <= len(columns) <= MAX_COLUMNS:
            raise ValueError(f"`columns` has to list 1 to {MAX_COLUMNS} columns, but lists {len(columns)}")
        if not all(isinstance(name, str) for name in models.values()):
            raise ValueError("`models` has to give names of models as text")
        for letter, text in zip(COLUMN_NAMES, columns, strict=False):
            _check_column(letter, text, models)
        return cls(title, tuple(columns), about, dict(models), key, ships)


def _is_title(title: object) -> bool:
    return isinstance(title, str) and bool(title.strip()) and len(title) <= MAX_TITLE and title.isprintable()


def check_title(title: object) -> None:
    """Raise BadSettings unless this may be the title of a line-up."""
    if not _is_title(title):
        wrong = f"The name of a line-up has to be one line of 1 to {MAX_TITLE} characters."
        raise BadSettings(wrong, f"Found {title!r:.80}." if title else "", "Give it a short name.", "line-up-title")


def _check_column(letter: str, text: object, models: Mapping[str, str]) -> None:
    if not isinstance(text, str) or len(text) > MAX_RUN:
        raise ValueError(f"Column {letter} has to be text as for `--run`, such as `pargs:beta=2`")
    if unknown := [name for name in PLACE.findall(text) if name not in models]:
        raise ValueError(f"Column {letter} names `{{{unknown[0]:.40}}}`, which `models` does not give")
    try:
        spec = parse_run(PLACE.sub(lambda place: models[place[1]], text), GenerationConfig())
        METHODS[spec.method].make(spec.params)
    except RgtgError as error:
        raise ValueError(f"Column {letter}, `{text:.80}`: {error}") from error


class LineUps:
    """The line-ups of one installation: those that ship, then one's own by title. Files are read when they are asked for."""

    def __init__(self, folder: Path, shipped: Path = PRESETS_DIR):
        self._folder, self._shipped, self._lock = folder, shipped, threading.Lock()

    def all(self) -> dict[str, LineUp]:
        """By key; a file that cannot be read is left out, see `unreadable`."""
        return self._read()[0]

    def unreadable(self) -> list[str]:
        """Why files of one's own folder cannot be read, a sentence each."""
        return self._read()[1]

    def _read(self) -> tuple[dict[str, LineUp], list[str]]:
        found, wrong = dict[str, LineUp](), list[str]()
        own: list[LineUp] = []
        for folder, ships in ((self._shipped, True), (self._folder, False)):
            for path in sorted(folder.glob("*.json"))[: MAX_OWN + 1]:
                try:
                    line_up = read_line_up(path, ships)
                except RgtgError as error:
                    wrong.append(str(error))
                    continue
                if ships:
                    found[line_up.key] = line_up
                else:
                    own.append(line_up)
        for line_up in sorted(own, key=lambda one: one.title.casefold()):
            found.setdefault(line_up.key, line_up)
        return found, wrong

    def get(self, name: str) -> LineUp:
        """The line-up with this key or title, in any case, or in the file of that path. Raises BadSettings, BadData."""
        known = self.all()
        for line_up in known.values():
            if name.casefold() in (line_up.key.casefold(), line_up.title.casefold()):
                return line_up
        if name.endswith(".json"):
            return read_line_up(Path(name).expanduser())
        raise BadSettings(f"There is no line-up `{name:.80}`.", f"There are: {', '.join(known)}.", "Name one of these, or a JSON file.")

    def keep(self, line_up: LineUp) -> LineUp:
        """Store it under its title in the data folder, in place of one's own of that title; returns it with its key. Raises RgtgError."""
        check_title(line_up.title)
        with self._lock:
            known = self.all()
            same = [one for one in known.values() if one.title.casefold() == line_up.title.strip().casefold()]
            if any(one.ships for one in same):
                raise BadSettings(f"“{line_up.title}” ships with rgtg.", "", "Choose another name.", "line-up-title")
            if not same and sum(not one.ships for one in known.values()) >= MAX_OWN:
                raise BadSettings(f"{MAX_OWN} line-ups are kept already.", "", "Delete one first.", "line-up-title")
            key = same[0].key if same else _free_key(line_up.title, [path.stem for path in self._folder.glob("*.json")] + list(known))
            kept = LineUp(line_up.title.strip(), line_up.columns, line_up.about, line_up.models, key)
            with door("The line-up was not saved.", kind=StoreError):
                write_json(self._folder / f"{key}.json", kept.plain())
        return kept

    def delete(self, key: str) -> None:
        """Delete one of one's own. Raises BadSettings."""
        line_up = self.all().get(key)
        if line_up is None or line_up.ships:
            raise BadSettings("That line-up is not one of your own.", "", "Choose one that you saved.")
        with door("The line-up was not deleted.", kind=StoreError):
            (self._folder / f"{key}.json").unlink(missing_ok=True)


def _free_key(title: str, taken: Sequence[str]) -> str:
    """A name for the file: "My β = 4" -> "my-4", with a number where it is taken; "line-up" where nothing is left."""
    name = re.sub(r"[^a-z0-9]+", "-", title.casefold()).strip("-") or "line-up"
    return next(key for number in range(len(taken) + 2) if (key := name + (f"-{number + 1}" if number else "")) not in taken)


def read_line_up(path: Path, ships: bool = False) -> LineUp:
    """The line-up in a JSON file. Raises BadData naming the file."""
    with door(f"`{path}` is not a line-up.", "Correct it, or export a line-up again.", BadData):
        return LineUp.of(read_json(path), path.stem, ships)


def parse_line_up(content: str, name: str) -> LineUp:
    """The line-up in the text of a file that is called `name`. Raises BadData."""
    with door(f"`{name:.80}` is not a line-up.", "Correct it, or export a line-up again.", BadData):
        return LineUp.of(parse_json(content))


def line_up_of(specs: Sequence[ColumnSpec], title: str) -> LineUp:
    """A line-up of these columns. Raises BadSettings."""
    check_title(title)
    return LineUp(title.strip(), tuple(run_text(spec) for spec in specs))


def line_up_columns(line_ups: LineUps, library: "Library", name: str, generation: GenerationConfig, base_lm: str | None = None) -> list[ColumnSpec]:
    """Columns of a line-up by its name or file, whose models may be folders. Raises RgtgError, also where models that it names are missing."""
    line_up = line_ups.get(name)
    specs = line_up.specs(generation)
    folders = [model for spec in specs for model, _ in spec.mix if model and is_folder(model)]
    if missing := missing_models(specs, library, base_lm, folders):
        wrong = f"The line-up “{line_up.title}” needs models that are not installed, or do not fit the base LM."
        raise BadSettings(wrong, f"Missing: {missing_words(missing)}.", "Add them on the Models page, or edit the line-up's file.")
    return specs


def missing_models(
    specs: Sequence[ColumnSpec], library: "Library", base_lm: str | None = None, others: Sequence[str] = ()
) -> dict[str, tuple[str, ...]]:
    """Column -> what it needs and is not installed for this base LM: names of models, or "a reward model" where it leaves the choice and
    there is none. `others` count as installed."""
    names = {m.name for m in (*library.guides(base_lm), *library.language_models(base_lm))} | set(others)
    missing = {}
    for letter, spec in zip(COLUMN_NAMES, specs, strict=False):
        gone = tuple(name for name, _ in spec.mix if name and name not in names)
        chosen = METHODS[spec.method]
        leaves_it = not spec.mix or any(not name and not role.base_lm for (name, _), role in zip(spec.mix, chosen.roles, strict=False))
        if chosen.uses_reward and leaves_it and not library.guide_for(spec.method, base_lm):
            gone += ("a reward model",)
        if gone:
            missing[letter] = gone
    return missing


def missing_words(missing: Mapping[str, Sequence[str]], quote: Callable[[str], str] = "`{}`".format) -> str:
    """ "`mine` (columns C, D), a reward model (column E)"; "" if nothing is missing."""
    columns: dict[str, list[str]] = {}
    for letter, names in missing.items():
        for name in names:
            columns.setdefault(name, []).append(letter)
    return ", ".join(
        f"{name if name == 'a reward model' else quote(name)} (column{'s' if len(letters) > 1 else ''} {', '.join(letters)})"
        for name, letters in columns.items()
    )
