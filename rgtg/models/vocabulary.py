"""Token ids from a model folder's tokenizer.json: enough to see that two models have different tokenizers before loading weights.

Knows nothing of torch or transformers; the tokenizers themselves are compared when models are used.
"""

import io
from pathlib import Path

from rgtg.errors import TokenizerMismatch
from rgtg.system.serialization import MAX_BYTES, read_json

FILE = "tokenizer.json"


def check_family(reward_model: tuple[str, Path], base_lm: tuple[str, Path]) -> None:
    """Raise TokenizerMismatch if less than half of the base LM's tokens have the same id in both models, each given as (name, folder).

    A tokenizer.json that cannot be read is left to the tokenizers.
    """
    (name, folder), (lm_name, lm_folder) = reward_model, base_lm
    if _content(folder) == _content(lm_folder):
        return
    rm_ids, lm_ids = token_ids(folder), token_ids(lm_folder)
    if rm_ids and lm_ids and 2 * (shared := len(rm_ids.items() & lm_ids.items())) < len(lm_ids):
        counts = f"`{name}` has {len(rm_ids):,} tokens, `{lm_name}` has {len(lm_ids):,}; {shared:,} have the same id in both."
        wrong = f"Reward model `{name}` and base LM `{lm_name}` do not share a tokenizer."
        raise TokenizerMismatch(wrong, counts, "Choose one trained for this base LM, or a reward model with a scalar head, which reads text.")


def token_ids(folder: Path) -> dict[str, int]:
    """{token: id} from a folder's tokenizer.json; {} if it is missing or cannot be read."""
    try:
        tokenizer = read_json(folder / FILE)
        vocabulary = tokenizer["model"]["vocab"]
        if isinstance(vocabulary, list):  # Unigram: [[token, log probability], …]
            vocabulary = {token: number for number, (token, _) in enumerate(vocabulary)}
        return dict(vocabulary) | {token["content"]: token["id"] for token in tokenizer.get("added_tokens") or ()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _content(folder: Path) -> bytes:
    try:
        with (folder / FILE).open("rb") if (folder / FILE).is_file() else io.BytesIO() as file:
            return file.read(MAX_BYTES)
    except OSError:
        return b""
