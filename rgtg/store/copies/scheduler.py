"""The scheduler of huggingface_hub, which swallows errors and tries again: here it reports what became of each push."""

import logging
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

from huggingface_hub import CommitScheduler

from rgtg.store.copies.dataset import KIND, VotesDataset

Upload = Callable[[], Any]
PATTERNS = ["journal/*.jsonl", "copies/*.db", "README.md"]
logging.getLogger("huggingface_hub._commit_scheduler").setLevel(logging.CRITICAL)  # the same error every few minutes: `push` logs a new one


class Scheduler(CommitScheduler):
    """Pushes what changed in a folder every few minutes, in one thread; `push` is given the upload to do, and `lock` is held while the folder is
    listed."""

    def __init__(self, dataset: VotesDataset, folder: Path, every_min: float, lock: Lock, push: Callable[[Upload], Any]):
        self._lock, self._push = lock, push
        super().__init__(
            repo_id=dataset.name, repo_type=KIND, private=True, folder_path=folder, every=every_min, allow_patterns=PATTERNS, hf_api=dataset.api
        )

    @property
    def lock(self) -> Lock:
        return self._lock

    @lock.setter
    def lock(self, made: Lock) -> None:
        """The one that the base class makes is not used: the journal has its own."""

    def push_to_hub(self) -> Any:
        return self._push(super().push_to_hub)
