"""Values of a row as texts and conversations: parsing cells, roles of turns, separating prompt and answer.

Knows nothing of files, layouts or tokenizers.
"""

import ast
import re
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from rgtg.errors import unsound
from rgtg.preferences.text_rows import BEGINS_JSON, BadRow, excerpt, parse_json
from rgtg.prompts import Message, transcript

Prompt = str | tuple[Message, ...]
Value = str | tuple[Message, ...]  # a text, or turns
ROLE_NAMES = {
    "human": "user", "user": "user", "prompter": "user", "gpt": "assistant", "assistant": "assistant", "bot": "assistant", "model": "assistant",
    "chatgpt": "assistant", "system": "system", "developer": "system",
}  # fmt: skip
MAX_CHARACTERS = 10_000_000  # of one text
HUMAN, TURN = "\n\nHuman:", "\n\nAssistant:"
KINDS = {
    bool: "true or false", int: "a number", float: "a number", Decimal: "a number", list: "a list", tuple: "a list", dict: "an object",
    str: "a text", bytes: "bytes", datetime: "a date", date: "a date",
}  # fmt: skip
LIKE_TURNS = re.compile(r"""\s*[\[(]?\s*\{\s*['"](role|from|content|value)['"]\s*:""")


class LeftOut(Exception):
    """Raised for a readable row without a preference; the cause is one of `formats.LEFT_OUT`."""

    def __init__(self, cause: str, found: str):
        self.cause, self.found = cause, found
        super().__init__(found)


def kind_of(value: Any) -> str:
    """The type of a value in words: "null", "a number (5)"."""
    if value is None or value in ([], ()):
        return "null" if value is None else "an empty list"
    content = f" ({excerpt(value, 30)})" if isinstance(value, (bool, int, float, str)) else ""
    return KINDS.get(type(value), "of a kind that is not read") + content


def text_of(value: Any, name: str) -> str:
    """A text, also from an object that holds only one. Raises BadRow."""
    if isinstance(value, Mapping) and "role" not in value:
        value = next((value[key] for key in ("text", "content", "full_text", "value") if isinstance(value.get(key), str)), value)
    if isinstance(value, list) and value and all(isinstance(part, Mapping) and "type" in part for part in value):
        return _parts(value, name)
    if not isinstance(value, str):
        raise BadRow(f"`{name}` is {kind_of(value)}, not a text.", "Mend or remove the row.")
    if len(value) > MAX_CHARACTERS:
        raise BadRow(f"`{name}` has {len(value):,} characters; at most {MAX_CHARACTERS:,} are read.", "Shorten it, or remove the row.")
    if fault := unsound(value, takes_nul=True):
        raise BadRow(f"`{name}` holds {fault[0]}: its character {fault[1] + 1:,}.", "Write the file again with valid characters, or remove the row.")
    return value


def _parts(parts: list[Mapping[str, Any]], name: str) -> str:
    """[{"type": "text", "text": "Hi"}] -> "Hi"."""
    other = next((part["type"] for part in parts if part["type"] not in ("text", "input_text", "output_text")), None)
    if other is not None:
        raise BadRow(f"`{name}` has a part of type `{excerpt(other)}`.", "Only parts of type text are read.")
    return "".join(text_of(part.get("text"), name) for part in parts)


def unwrapped(value: Any, name: str, strict: bool) -> Any:
    """The parsed value of a text that is a JSON list or object; other values unchanged.

    With `strict`, for cells of a text table, a text that begins like a list or object and cannot be parsed raises BadRow. Otherwise
    only one that looks like a conversation does: an answer may well be JSON.
    """
    if not isinstance(value, str) or not BEGINS_JSON.match(value):
        return value
    like_turns = LIKE_TURNS.match(value) is not None
    if not strict and not like_turns and not value.lstrip().startswith('["'):
        return value
    try:
        parsed = parse_json(value)
    except BadRow as error:
        parsed = _literal(value)
        if parsed is None and (strict or like_turns):
            begins = f"`{name}` begins a list or an object, but is no JSON: `{excerpt(value, 40)}`."
            raise BadRow(begins, "Write conversations as JSON, with double quotes and commas.") from error
    if is_turns(parsed) or _are_texts(parsed) or (isinstance(parsed, list) and not parsed):
        return parsed
    if isinstance(parsed, list) and all(isinstance(item, int) and not isinstance(item, bool) for item in parsed):
        return parsed
    if isinstance(parsed, Mapping) and any(isinstance(parsed.get(key), str) for key in ("text", "content")) and len(parsed) == 1:
        return parsed
    if strict or like_turns:
        raise BadRow(
            f"`{name}` holds a JSON value that is no text and no conversation: `{excerpt(value, 40)}`.", "Write a text, or a list of messages."
        )
    return value


def _literal(text: str) -> Any:
    """The value of a Python literal; None where the text is none."""
    if len(text) > 1_000_000:
        return None
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None


def is_turns(value: Any) -> bool:
    """Whether a value is a message, or a list of messages."""
    turns = [value] if isinstance(value, Mapping) else value
    return isinstance(turns, (list, tuple)) and bool(turns) and all(_is_message(turn) for turn in turns)


def _is_message(turn: Any) -> bool:
    if isinstance(turn, Mapping):
        return bool(turn.keys() & {"role", "from"}) and bool(turn.keys() & {"content", "value", "text"})
    return isinstance(turn, (list, tuple)) and len(turn) == 2 and isinstance(turn[0], str) and turn[0].lower() in ROLE_NAMES


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def value_of(value: Any, name: str) -> Value:
    """A value of a row as a text or as turns. Raises BadRow."""
    if value is None:
        raise BadRow(f"`{name}` is null: there is nothing in it.", "Fill it, or remove the row.")
    if isinstance(value, (list, tuple)) and not value:
        raise BadRow(f"`{name}` is an empty list: there is nothing in it.", "Fill it, or remove the row.")
    if isinstance(value, Mapping) and isinstance(value.get("messages"), (list, tuple)):
        return value_of(value["messages"], name)
    if is_turns(value):
        return messages([value] if isinstance(value, Mapping) else value, name)
    if _are_texts(value):
        if len(value) > 1:
            raise BadRow(
                f"`{name}` is a list of {len(value)} texts, which does not say whose turn each is.", 'A message is {"role": …, "content": …}.'
            )
        return text_of(value[0], name)
    if isinstance(value, (list, tuple)) and not all(isinstance(part, Mapping) and "type" in part for part in value):
        odd = next((item for item in value if not _is_message(item)), value)
        raise BadRow(f"`{name}` is a list that holds {kind_of(odd)}, not messages.", 'A message is {"role": …, "content": …}.')
    return text_of(value, name)


def messages(value: Any, name: str) -> tuple[Message, ...]:
    """[{"role": "user", "content": "Hi"}], [{"from": "human", "value": "Hi"}] or [["Human", "Hi"]] -> (("user", "Hi"),)"""
    turns = []
    for turn in value:
        if isinstance(turn, Mapping):
            role = turn.get("role") if turn.get("role") is not None else turn.get("from")
            content = next((turn[key] for key in ("content", "value", "text") if turn.get(key) is not None), None)
        else:
            role, content = turn
        if not isinstance(role, str) or role.lower() not in ROLE_NAMES:
            from_whom = f"`{excerpt(role, 30)}`" if isinstance(role, str) else kind_of(role)
            raise BadRow(f"A message of `{name}` is from {from_whom}.", f"The roles are {', '.join(ROLE_NAMES)}.")
        turns.append((ROLE_NAMES[role.lower()], text_of(content, f"{name}, a message of {role}")))
    return tuple(turns)


# --- a prompt and its answers -----------------------------------------------------------------------------------------


def with_context(prompt: Value, system: str, history: tuple[Message, ...]) -> Value:
    """A prompt after its system prompt and earlier turns; those that it has already are not repeated."""
    if not system and not history:
        return prompt
    turns = (("user", prompt),) if isinstance(prompt, str) and prompt else () if isinstance(prompt, str) else prompt
    return after_prompt(((("system", system),) if system else ()) + history, turns)


def after_prompt(shared: tuple[Message, ...], turns: tuple[Message, ...]) -> tuple[Message, ...]:
    """The prompt followed by the turns before an answer; a prompt that these contain already is not repeated.

    >>> after_prompt((("user", "Hi"),), (("user", "Hi"), ("assistant", "Hello."), ("user", "Why?")))
    (('user', 'Hi'), ('assistant', 'Hello.'), ('user', 'Why?'))
    """
    prompt_turns, own_turns = ([(role, content.strip()) for role, content in side if role != "system"] for side in (shared, turns))
    if prompt_turns not in (own_turns[: len(prompt_turns)], own_turns[len(own_turns) - len(prompt_turns) :]):
        return *shared, *turns
    return *(turn for turn in shared if turn[0] == "system" and turn not in turns), *turns


def answered(prompt: Value, side: Value, name: str) -> tuple[Value, str]:
    """The complete prompt of a side and its answer. Raises LeftOut where the last turn is not the assistant's."""
    if isinstance(side, str) and not isinstance(prompt, str):
        return prompt, side
    if isinstance(side, str):
        return _dialogue(str(prompt), side, name)
    if side[-1][0] != "assistant":
        raise LeftOut("no_answer", f"`{name}` does not end with the assistant's answer.")
    shared = (("user", prompt),) if isinstance(prompt, str) and prompt else () if isinstance(prompt, str) else prompt
    return after_prompt(shared, side[:-1]) or "", side[-1][1]


def _dialogue(prompt: str, side: str, name: str) -> tuple[str, str]:
    """Prompt and answer of an HH dialogue, whose sides differ in the last turn. With the turns in the prompt, an answer may add more."""
    if prompt and TURN not in prompt:
        return prompt, side
    dialogue = side if side.startswith(prompt) else prompt + side
    return last_turn(dialogue, name)


def last_turn(dialogue: str, name: str) -> tuple[str, str]:
    """A dialogue as prompt and last answer. Raises LeftOut where it ends with the human's turn."""
    before, turn, answer = dialogue.rpartition(TURN)
    if HUMAN in answer:
        raise LeftOut("no_answer", f"`{name}` ends with the human's turn.")
    return before + turn, answer


def common_prompt(chosen: str, rejected: str) -> tuple[str, str, str]:
    """The common beginning of two texts, up to a word boundary, and the rest of each.

    >>> common_prompt("Q: Hi A: The cat", "Q: Hi A: They")
    ('Q: Hi A:', ' The cat', ' They')
    """
    most = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), min(len(chosen), len(rejected)))
    raw = most
    while most and not (chosen[most : most + 1].isspace() and rejected[most : most + 1].isspace()):
        most -= 1
    if not chosen[:most].strip() and raw and not re.match(r"[A-Za-z0-9\s]", chosen[raw - 1]):  # a script without spaces
        most = raw
    if not chosen[:most].strip():
        raise BadRow("Its sides have nothing in common at their beginning, and there is no `prompt`.", "Add a column `prompt`.")
    return chosen[:most], chosen[most:], rejected[most:]


def without_prompt(prompt: str, chosen: str, rejected: str) -> tuple[str, str]:
    """Two answers without the prompt where both begin with it; else unchanged."""
    if len(prompt.split()) > 1 and chosen.startswith(prompt) and rejected.startswith(prompt):
        return chosen[len(prompt) :], rejected[len(prompt) :]
    return chosen, rejected


def check_same(chosen: Value, rejected: Value) -> None:
    """Raise LeftOut where two answers have different prompts."""
    if chosen != rejected:
        a, b = (prompt if isinstance(prompt, str) else transcript(prompt) for prompt in (chosen, rejected))
        at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        difference = f"Its sides answer different prompts: from character {at + 1} on, {a[at : at + 30]!r} against {b[at : at + 30]!r}."
        raise LeftOut("other_prompts", difference)
