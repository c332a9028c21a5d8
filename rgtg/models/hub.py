"""Models of the Hub: what is refused by the list of files, their sizes and config.json alone, before a weight is fetched, and the download.

Knows nothing of how weights are read. The Hub is asked through its client alone, at a commit once that is known.
"""

import logging
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rgtg.errors import ModelNotFound, ModelRefused, printable, words_of
from rgtg.models.catalog import config_in

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

logger = logging.getLogger(__name__)
NAME = re.compile(r"[\w][\w.+-]*")  # of a file that is fetched: in no folder, and nothing that a pattern would read otherwise
WANTED = re.compile(r".*\.(?:safetensors|safetensors\.index\.json|json|txt)|tokenizer\.model")
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
MAX_FILES = 2_000
MAX_CONFIG, MAX_OTHER = 5_000_000, 256_000_000  # bytes of config.json, and of any other file that is no weight
ROOM_LEFT = 1_000_000_000  # bytes that stay free on the disk
WIDEST = 4  # bytes of a number in memory


def from_hub(repo: str, commit: str = "") -> tuple[Path, str]:
    """(folder, commit) of a repository, downloaded. Raises ModelNotFound, ModelRefused."""
    from huggingface_hub import HfApi, errors, hf_hub_download, snapshot_download

    place: dict[str, Any] = {"endpoint": os.environ.get("HF_ENDPOINT") or None, "cache_dir": os.environ.get("HF_HUB_CACHE") or None}
    reached, names = True, list[str]()
    try:
        try:
            listing = HfApi(endpoint=place["endpoint"]).model_info(repo, revision=commit or None, files_metadata=True, timeout=10)
            names, commit = _checked(repo, listing, commit)
            config = Path(hf_hub_download(repo, "config.json", revision=commit, **place)) if "config.json" in names else None
            check_files(repo, [*names, *(file.rfilename for file in listing.siblings or () if file.rfilename.endswith(PICKLED))], config)
            _check_family(repo, config)
            _check_room(repo, listing, names, place["cache_dir"])
        except errors.HfHubHTTPError:
            raise
        except (errors.HTTPError, OSError) as offline:  # no network: an earlier download can still be used
            logger.info("no hub: %s", offline)
            reached = False  # a second request would wait for its timeout again
        local = snapshot_download(repo, revision=commit or None, allow_patterns=names or None, local_files_only=not reached, **place)
    except (errors.HTTPError, errors.HFValidationError, OSError, ValueError) as error:
        do = "Check the id and the network, log in if it is gated, or give a folder."
        raise ModelNotFound(f"`{repo}` could not be downloaded from the Hub.", words_of(error), do) from error
    return Path(local), Path(local).name


def check_files(name: str, files: Sequence[str], config: Path | None) -> None:
    """Raise ModelRefused for a model that must not be loaded, from its list of files and its config.json alone."""
    if config is None and "adapter_config.json" in files:
        do = "Merge it into its base model (peft's `merge_and_unload`), save that, and give the merged folder."
        raise ModelRefused(f"`{name}` holds an adapter, not a model.", "It has an adapter_config.json, and no config.json.", do)
    if config_in(config or Path(name) / "config.json", name).get("auto_map"):
        raise ModelRefused(
            f"`{name}` needs remote code.", "Its config.json has an `auto_map`.", "Choose a model family that transformers itself supports."
        )
    if not any(f.endswith(".safetensors") for f in files):
        pickled = [f for f in files if f.endswith(PICKLED)]
        raise ModelRefused(
            f"`{name}` has no safetensors weights.",
            f"Found {', '.join(pickled)[:200]}, which can hold code." if pickled else "No weights were found.",
            "Save it again with `save_pretrained` (safetensors is the default).",
        )


def _checked(repo: str, listing: "ModelInfo", commit: str) -> tuple[list[str], str]:
    """(names of the files to fetch, commit) by what the Hub answered: plain names alone, and sizes that can be borne."""
    siblings, found = listing.siblings or [], listing.sha or ""
    if found != commit if commit else not re.fullmatch("[0-9a-f]{40}", found):
        raise ModelRefused(f"`{repo}` was not found at that commit.", f"The Hub answered with `{printable(found):.60}`.", "Check the commit.")
    if len(siblings) > MAX_FILES:
        raise ModelRefused(f"`{repo}` has too many files.", f"Found {len(siblings):,}; the limit is {MAX_FILES:,}.", "Choose another model.")
    names = [file.rfilename for file in siblings if NAME.fullmatch(file.rfilename) and WANTED.fullmatch(file.rfilename)]
    for file in siblings:
        limit = MAX_CONFIG if file.rfilename == "config.json" else MAX_OTHER
        if file.rfilename in names and not file.rfilename.endswith(".safetensors") and (file.size or 0) > limit:
            found = f"`{file.rfilename}` has {file.size:,} bytes; the limit is {limit:,}."
            raise ModelRefused(f"`{repo}` has a file that is too large.", found, "Choose another model.")
    return names, found


def _check_family(repo: str, config: Path | None) -> None:
    """Raise ModelRefused where transformers does not know the family, so that it would take code of the repository."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    family = config_in(config, repo).get("model_type") if config is not None else None
    if not isinstance(family, str) or family not in CONFIG_MAPPING_NAMES:
        named = f"Its config.json says `{printable(str(family)):.60}`." if family else "Its config.json has no `model_type`."
        raise ModelRefused(f"transformers does not know the family of `{repo}`.", named, "Choose a model of another family.")


def _check_room(repo: str, listing: "ModelInfo", names: Sequence[str], cache: str | None) -> None:
    """Raise ModelRefused where the weights do not fit on the disk or, in the widest dtype, into memory."""
    import psutil
    from huggingface_hub import constants

    sizes = {file.rfilename: file.size or 0 for file in listing.siblings or () if file.rfilename in names}
    folder = Path(cache or constants.HF_HUB_CACHE)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free - ROOM_LEFT
    if sum(sizes.values()) > free:
        raise ModelRefused(f"`{repo}` does not fit on the disk.", f"It has {_gb(sum(sizes.values()))}; {_gb(max(free, 0))} are free.", "Free some.")
    if torch.cuda.is_available():  # then each tensor goes to the GPU as it is read
        return
    numbers = listing.safetensors.total if listing.safetensors is not None else 0
    weights = max(numbers * WIDEST, sum(size for name, size in sizes.items() if name.endswith(".safetensors")))
    if weights > psutil.virtual_memory().available:
        found = f"Its weights take {_gb(weights)}; {_gb(psutil.virtual_memory().available)} are free."
        raise ModelRefused(f"`{repo}` does not fit into memory.", found, "Choose a smaller one.")


def _gb(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:,.1f} GB"
