"""Annotation tasks, a JSON file each, and the guidelines, of which every version is kept; both in the data folder.

Knows nothing of raters, models or the screen.
"""

import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rgtg.config import GenerationConfig
from rgtg.errors import BadSettings, RgtgError, StoreError, UnknownRecord, door
from rgtg.prompts import check_text
from rgtg.ratings.next_pair import RULES
from rgtg.records import new_id, now
from rgtg.system.files import write_json
from rgtg.system.serialization import check_types, from_dict, read_json

MAX_PROMPTS, MAX_PROMPT, MAX_PAIRS, MAX_ANSWERS = 10_000, 20_000, 10_000, 4
MAX_TITLE, MAX_GUIDELINES = 80, 20_000


@dataclass(frozen=True)
class Task:
    """What raters compare: prompts, columns as `--run` takes them, and how pairs are chosen.

    Each rater votes on `num_pairs` pairs of `num_answers` answers. `overlap` is the share of them that other raters see, too, `repeats` the
    share that he sees again with the sides swapped, `gold_share` that of pairs whose better answer is known; `reveal`: whether a vote is answered
    with what made the answers; `ranking`: whether more than two answers are ranked, instead of naming the best one.
    """

    title: str
    prompts: tuple[str, ...]
    columns: tuple[str, ...]
    line_up: str = ""
    base_lm: str = ""
    generation: GenerationConfig = GenerationConfig()
    num_pairs: int = 50
    num_answers: int = 2
    rule: str = "uniform"
    overlap: float = 0.2
    repeats: float = 0.1
    gold_share: float = 0.1
    reveal: bool = False
    ranking: bool = False
    id: str = ""
    created_at: str = ""

    def check(self) -> None:
        """Raise BadSettings where a field is out of range."""
        if not self.title.strip() or len(self.title) > MAX_TITLE or not self.title.isprintable():
            raise BadSettings(f"The title has to be one line of 1 to {MAX_TITLE} characters.", "", "Shorten it.", "task-title")
        if not 1 <= len(self.prompts) <= MAX_PROMPTS:
            do = "Type one a line, or choose a file."
            raise BadSettings(f"A task has 1 to {MAX_PROMPTS:,} prompts.", f"Found {len(self.prompts):,}.", do, "task-prompts")
        for number, prompt in enumerate(self.prompts, 1):
            if not prompt.strip() or len(prompt) > MAX_PROMPT:
                wrong = f"A prompt has 1 to {MAX_PROMPT:,} characters."
                raise BadSettings(wrong, f"Prompt {number} has {len(prompt):,}.", "Correct it.", "task-prompts")
            check_text(prompt, f"prompt {number}")
        if len(set(self.columns)) < 2:
            found = f"The line-up has {len(set(self.columns))} different columns."
            raise BadSettings("There is nothing to compare.", found, "Choose another line-up.", "task-line-up")
        if not 2 <= self.num_answers <= min(MAX_ANSWERS, len(self.columns)):
            limit = min(MAX_ANSWERS, len(self.columns))
            wrong = f"Raters compare 2 to {limit} answers at once with this line-up."
            raise BadSettings(wrong, f"Found {self.num_answers}.", "Choose fewer.", "task-num_answers")
        if self.rule not in RULES:
            raise BadSettings(f"There is no rule `{self.rule:.40}`.", f"The rules are: {', '.join(RULES)}.", "", "task-rule")
        if self.num_answers > 2 and self.rule != "uniform":
            raise BadSettings("More than two answers are drawn uniformly.", f"Found the rule `{self.rule}`.", "Choose uniform.", "task-rule")
        if self.ranking and self.num_answers < 3:
            raise BadSettings("Two answers need no ranking.", f"Found {self.num_answers} answers at once.", "Choose three or four.", "task-ranking")
        if not 1 <= self.num_pairs <= MAX_PAIRS:
            raise BadSettings(f"A rater votes on 1 to {MAX_PAIRS:,} pairs.", f"Found {self.num_pairs}.", "", "task-num_pairs")
        for name in ("overlap", "repeats", "gold_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadSettings("A share has to be between 0 and 1.", f"`{name}` is {getattr(self, name):g}.", "", f"task-{name}")


class Tasks:
    """The tasks of a data folder; each file is read once, and never changed."""

    def __init__(self, folder: Path):
        self._folder, self._lock = folder, threading.Lock()
        self._known: dict[str, Task] = {}

    def add(self, task: Task) -> Task:
        """Store a new task; returns it with its id. Raises BadSettings, StoreError."""
        task.check()
        task = replace(task, title=task.title.strip(), id=new_id(), created_at=now())
        with door("The task was not saved.", kind=StoreError):
            write_json(self._folder / f"{task.id}.json", asdict(task))
        with self._lock:
            self._known[task.id] = task
        return task

    def get(self, task_id: str) -> Task:
        """Raises UnknownRecord, or BadData where the file cannot be read."""
        with self._lock:
            if task_id not in self._known:
                path = self._folder / f"{task_id}.json"
                if not task_id.isalnum() or not path.is_file():
                    raise UnknownRecord("There is no such annotation task.", "", "Ask for its complete link.")
                with door(f"`{path.name}` is not an annotation task."):
                    content = read_json(path)
                    check_types(Task, content)
                    self._known[task_id] = from_dict(Task, content)
            return self._known[task_id]

    def all(self) -> list[Task]:
        """All tasks that can be read, newest first."""
        found = []
        for path in self._folder.glob("*.json"):
            with suppress(RgtgError):
                found.append(self.get(path.stem))
        return sorted(found, key=lambda task: task.created_at, reverse=True)


class Guidelines:
    """What raters are asked to look at. A change makes a new version, and the old ones stay: votes name the one that was shown."""

    def __init__(self, path: Path):
        self._path, self._lock = path, threading.Lock()

    def current(self) -> tuple[str, str]:
        """Version and text; ("", "") where none were written."""
        versions = self.versions()
        return (versions[-1]["version"], versions[-1]["text"]) if versions else ("", "")

    def versions(self) -> list[dict[str, Any]]:
        """All versions, oldest first, as {version, text, created_at}."""
        if not self._path.is_file():
            return []
        with door(f"`{self._path.name}` cannot be read as guidelines."):
            content = read_json(self._path)
            if not isinstance(content, list) or not all(isinstance(one, dict) and {"version", "text"} <= one.keys() for one in content):
                raise ValueError("it is not a list of versions")
            return content

    def change(self, text: str) -> str:
        """Store a new text as the next version, unless it is the current one; the version that is current then. Raises BadSettings, StoreError."""
        if len(text) > MAX_GUIDELINES:
            wrong = f"Guidelines have up to {MAX_GUIDELINES:,} characters."
            raise BadSettings(wrong, f"Found {len(text):,}.", "Shorten them.", "guidelines-text")
        check_text(text, "guidelines")
        with self._lock:
            versions = self.versions()
            if text == (versions[-1]["text"] if versions else ""):
                return versions[-1]["version"] if versions else ""
            version = str(len(versions) + 1)
            with door("The guidelines were not saved.", kind=StoreError):
                write_json(self._path, [*versions, {"version": version, "text": text, "created_at": now()}])
            return version
