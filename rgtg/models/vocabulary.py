"""Which token has which id, read from a model folder's tokenizer.json: enough to see that two models are of different families before
a weight is read.

Knows nothing of torch or transformers; what the tokenizers themselves make of their files is compared when models are used.
"""

import io
from pathlib import Path

from rgtg.errors import TokenizerMismatch
from rgtg.system.serialization import MAX_BYTES, read_json

FILE = "tokenizer.json"


def check_family(reward_model: tuple[str, Path], base_lm: tuple[str, Path]) -> None:
    """Two models as (name, folder). Raises TokenizerMismatch where less than half of the base LM's tokens have the same id in both; what
    cannot be read here is left to the tokenizers."""
    (name, folder), (lm_name, lm_folder) = reward_model, base_lm
    if _content(folder) == _content(lm_folder):
        return
    ours, theirs = token_ids(folder), token_ids(lm_folder)
    if ours and theirs and 2 * (shared := len(ours.items() & theirs.items())) < len(theirs):
        found = f"`{name}` has {len(ours):,} tokens, `{lm_name}` has {len(theirs):,}; {shared:,} have the same id in both."
        wrong = f"Reward model `{name}` and base LM `{lm_name}` do not share a tokenizer."
        raise TokenizerMismatch(wrong, found, "Choose a reward model trained for this base LM.")


def token_ids(folder: Path) -> dict[str, int]:
    """{token: id} of a folder's tokenizer.json; {} where there is none that can be read."""
    try:
        found = read_json(folder / FILE)
        vocabulary = found["model"]["vocab"]
        if isinstance(vocabulary, list):  # Unigram: [[token, log probability], …]
            vocabulary = {token: number for number, (token, _) in enumerate(vocabulary)}
        return dict(vocabulary) | {token["content"]: token["id"] for token in found.get("added_tokens") or ()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _content(folder: Path) -> bytes:
    try:
        with (folder / FILE).open("rb") if (folder / FILE).is_file() else io.BytesIO() as file:
            return file.read(MAX_BYTES)
    except OSError:
        return b""
