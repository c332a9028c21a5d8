"""Prompts from a file: one per line, or rows in any format with a column of a usual name.

Knows nothing of pairs, tokenizers or generation.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rgtg.errors import BadData
from rgtg.preferences.columns import KNOWN
from rgtg.preferences.rows import CELLS, LINES, NumberedRow, Rows, is_here
from rgtg.preferences.text_rows import BadRow, excerpt
from rgtg.preferences.turns import ROLE_NAMES, kind_of, text_of, unwrapped, value_of

logger = logging.getLogger(__name__)
NAMES = ("prompt", "instruction", "question", "query", "turns", "messages", "conversations", "conversation", "input", "text")  # likeliest first
HOW = "A row is a text, or holds one as `prompt`, `instruction`, `question`, `turns` or `messages`."


def read_prompts(source: str | Path, limit: int | None = None) -> list[str]:
    """The first `limit` prompts of a file, folder or hub data set; prompts of which only a part is read are logged as a warning. Raises BadData
    naming the line or row."""
    path, prompts, turns = Path(source), list[str](), Counter[int]()
    if not is_here(path) and (isinstance(source, Path) or path.suffix):
        raise BadData(f"`{source}` cannot be read as prompts.", "There is no such file.", "Give a text file with a prompt a line, or JSON lines.")
    for numbered in Rows(source, known=KNOWN | set(NAMES)):
        if limit is not None and len(prompts) >= limit:
            break
        try:
            if isinstance(numbered.row, BadRow):
                raise numbered.row
            prompts.append(prompt_of(numbered))
            turns[num_turns(numbered.row)] += 1
        except BadRow as error:
            where = "Line" if numbered.kind == LINES else "Row"
            raise BadData(f"{where} {numbered.number} of `{source}` has no prompt.", error.found, error.do) from error
    if not prompts and limit != 0:
        raise BadData(f"`{source}` holds no prompt.", "It has no rows.", HOW)
    for num, rows in sorted(turns.items()):
        if num > 1:
            many = "s" if rows > 1 else ""
            logger.warning("`%s`, read as: the first of %d turns of the user, in %d row%s; the others are ignored.", source, num, rows, many)
    return prompts


def num_turns(row: Any) -> int:
    """Number of user turns in a row of MT-bench; 1 for any other row."""
    name = _name_in(row) if isinstance(row, Mapping) else ""
    return len(row[name]) if name == "turns" and _are_turns(row[name]) else 1


def _name_in(row: Mapping[str, Any]) -> str:
    return next((name for name in NAMES if row.get(name) not in (None, "")), "")


def _are_turns(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(turn, str) for turn in value)


def prompt_of(numbered: NumberedRow) -> str:
    """The prompt of a row. Raises BadRow."""
    row = numbered.row
    if isinstance(row, str):
        return _filled(text_of(row, "prompt"), "prompt")
    if not isinstance(row, Mapping):
        raise BadRow(f"It is {kind_of(row)}, not a text.", HOW)
    name = _name_in(row)
    if not name:
        null = next((name for name in NAMES if name in row), "")
        available = f"It has {', '.join(f'`{excerpt(name, 40)}`' for name in row) or 'no names'}"
        found = available if not null else f"`{null}` is {'empty' if row[null] == '' else 'null'}"
        raise BadRow(f"{found}.", HOW)
    if name == "text" and ROLE_NAMES.get(str(row.get("role")).lower()) in ("assistant", "system"):
        raise BadRow(f"Its `text` is a message of the {row['role']}.", "A prompt is what a user asks: keep the rows of the user.")
    value = unwrapped(row[name], name, numbered.kind == CELLS)
    text = _first_turn(value, name)
    if name == "instruction" and isinstance(row.get("input"), str) and row["input"]:
        text = f"{text}\n{text_of(row['input'], 'input')}"
    system = next((name for name in ("system", "system_prompt") if row.get(name)), "")
    if system:
        raise BadRow(f"It has a system prompt (`{system}`) beside its prompt.", "A prompt here is one text; join them, or remove it.")
    return _filled(text, name)


def _first_turn(value: Any, name: str) -> str:
    """The text of a prompt: a text, an object around one, the first of `turns`, or a conversation of one message."""
    if name == "turns" and _are_turns(value):
        return text_of(value[0], name)
    prompt = value_of(value, name)
    if isinstance(prompt, str):
        return prompt
    if len(prompt) != 1 or prompt[0][0] != "user":
        length = f"{len(prompt)} messages" if len(prompt) > 1 else f"one message of the {prompt[0][0]}"
        do = "A prompt here is one text, or one message of the user: keep the last question, or write the turns as one text."
        raise BadRow(f"`{name}` is a conversation of {length}.", do)
    return prompt[0][1]


def _filled(text: str, name: str) -> str:
    if not text.strip():
        raise BadRow(f"`{name}` is empty.", HOW)
    return text
