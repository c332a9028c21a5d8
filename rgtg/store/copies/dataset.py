"""The private dataset of the Hub that journals and copies are kept in. Knows nothing of what is in them."""

import logging
import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rgtg.errors import BadSettings, StoreError, door

if TYPE_CHECKING:
    from huggingface_hub import HfApi

log = logging.getLogger(__name__)
KIND = "dataset"
SIGN_IN = "Set HF_TOKEN to a token that may write, and check the network."


def private_dataset(api: "HfApi", name: str, field: str = "") -> None:
    """Make the dataset, private, if there is none. Raises BadSettings where it is public, and what the Hub answers."""
    api.create_repo(name, repo_type=KIND, private=True, exist_ok=True)  # what is there already stays as it is
    if not api.repo_info(name, repo_type=KIND).private:
        raise BadSettings(f"`{name}` is public.", "What raters said is uploaded to private data sets only.", "Give another name.", field)


class VotesDataset:
    """The dataset, by its name. Every method raises StoreError where the Hub refuses or cannot be reached."""

    def __init__(self, name: str, api: "HfApi | None" = None):
        from huggingface_hub import HfApi

        self.name, self.api = name, api or HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)

    def make(self) -> None:
        with self._door("cannot be used"):
            private_dataset(self.api, self.name)

    def files(self) -> dict[str, int]:
        """Its files with their sizes; none where there is no such dataset."""
        from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

        with self._door("cannot be read"):
            try:
                return {entry.path: entry.size for entry in self._tree()}
            except (EntryNotFoundError, RepositoryNotFoundError):
                return {}

    def fetch(self, path: str, folder: Path) -> Path:
        """Download a file into the folder, under its path."""
        with self._door("cannot be read"):
            return Path(self.api.hf_hub_download(self.name, path, repo_type=KIND, local_dir=folder))

    def remove(self, paths: Collection[str]) -> None:
        """Delete files; what stood in them stays in the history until `forget`."""
        from huggingface_hub import CommitOperationDelete

        if paths:
            with self._door("cannot be tidied"):
                deleted = [CommitOperationDelete(path_in_repo=path) for path in sorted(paths)]
                self.api.create_commit(self.name, deleted, commit_message="Remove what newer copies have", repo_type=KIND)

    def forget(self) -> None:
        """Make the files as they are the only version that the Hub has."""
        with self._door("cannot be tidied"):
            self.api.super_squash_history(self.name, repo_type=KIND, commit_message="Votes of rgtg")
            kept = {entry.lfs.sha256 for entry in self._tree() if entry.lfs}
            old = [file for file in self.api.list_lfs_files(self.name, repo_type=KIND) if file.file_oid not in kept]
            if old:
                self.api.permanently_delete_lfs_files(self.name, old, repo_type=KIND)

    def _tree(self) -> list[Any]:
        return [entry for entry in self.api.list_repo_tree(self.name, recursive=True, repo_type=KIND) if hasattr(entry, "size")]

    def _door(self, what: str) -> Any:
        return door(f"The dataset `{self.name}`, which votes are copied to, {what}.", SIGN_IN, StoreError)
