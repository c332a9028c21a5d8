"""The one place where prompt and response become ids, and ids become text again.

Works on tokenizers alone. Knows nothing of models, methods or the screen.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from rgtg.config import Limits
from rgtg.errors import BadData, BadSettings, LimitPassed, PromptTooLong, door, unsound, words_of
from rgtg.system.child import ask

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEMPLATES = ("plain", "chat")  # stored in every card, with the system prompt
Message = tuple[str, str]  # (role, content)
ASKED, ANSWERED, ASKED_AGAIN = "Forty-one", "Forty-two", "Forty-three"  # words that no template writes of its own


def check_text(text: str, name: str) -> None:
    """Raises BadData, naming what it is, where a text can be neither read nor stored."""
    if found := unsound(text):
        raise BadData(f"The {name} holds {found[0]}.", f"It is character {found[1] + 1:,}.", "Write it in whole characters, in UTF-8.")


def encode_prompt(
    tokenizer: "PreTrainedTokenizerBase", prompt: str | Sequence[Message], template: str = "plain", system_prompt: str = ""
) -> tuple[int, ...]:
    """The ids a response follows.

    `plain`: the tokenizer's own start token, if it has one, and the prompt as it is; of a conversation `transcript`.
    `chat`: the tokenizer's chat template, with the system prompt, up to where the assistant's turn begins.
    Markers of special tokens inside the prompt stay text. Raises BadSettings where nothing is left to start from.
    """
    if template not in TEMPLATES:
        raise BadSettings(f"There is no template `{template}`.", f"The templates are: {', '.join(TEMPLATES)}.")
    if template == "chat":
        return _encode_chat(tokenizer, prompt, system_prompt)
    text = prompt if isinstance(prompt, str) else transcript(prompt)
    ids, _ = _open_and_appended(tokenizer, text)  # some tokenizers close every text; a prompt goes on
    if not ids:
        start = next((i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None), None)
        if start is None:
            raise BadSettings("The prompt is empty.", "This tokenizer has no start token to begin from.", "Type a prompt, or pick an example.")
        ids = [start]
    return tuple(ids)


def _open_and_appended(tokenizer: "PreTrainedTokenizerBase", text: str) -> tuple[list[int], list[int]]:
    """The ids of a text behind what the tokenizer puts before it, and the special tokens that it puts behind."""
    found = tokenizer(text, split_special_tokens=True, return_special_tokens_mask=True)
    ids, added = list(found["input_ids"]), list(found["special_tokens_mask"])
    if 0 not in added:  # of an empty text it cannot be seen what stands before and what behind
        num = len(_open_and_appended(tokenizer, "a")[1]) if text != "a" else len(ids) - (ids[:1] == [tokenizer.bos_token_id])
    else:
        num = added[::-1].index(0)
    return ids[: len(ids) - num], ids[len(ids) - num :]


def _encode_chat(tokenizer: "PreTrainedTokenizerBase", prompt: str | Sequence[Message], system_prompt: str) -> tuple[int, ...]:
    if not getattr(tokenizer, "chat_template", None):
        raise BadSettings("This tokenizer has no chat template.", "", "Choose the template `plain`, or a model made for chat.")
    if isinstance(templates := tokenizer.chat_template, dict) and "default" not in templates:
        there = f"It has: {', '.join(map(repr, templates))}."
        do = "Choose the template `plain`, or name one of them `default` in its tokenizer_config.json."
        raise BadSettings("This tokenizer has several chat templates, and none is its default.", there, do)
    messages = [("user", prompt)] if isinstance(prompt, str) else list(prompt)
    if system_prompt and (not messages or messages[0][0] != "system"):
        messages.insert(0, ("system", system_prompt))
    turns = [{"role": role, "content": content} for role, content in messages]
    outcome, text = render(tokenizer, turns, True)
    if outcome == "refused":  # some templates take no system role, or only turns that alternate
        do = "Choose the template `plain`." if messages[0][0] != "system" else "Leave the system prompt empty, or choose the template `plain`."
        raise BadSettings("The chat template of this tokenizer refuses these messages.", f"It says: {text}", do)
    wrong, do = "The chat template of this tokenizer cannot be used.", "Choose the template `plain`."
    if outcome == "failed":
        raise BadSettings(wrong, f"It fails: {text}", do)
    with door(wrong, do, BadSettings):
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def template_of(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Its chat template, of several the one named `default`; "" where there is none."""
    found = getattr(tokenizer, "chat_template", None)
    return str((found.get("default") if isinstance(found, dict) else found) or "")


def render(tokenizer: "PreTrainedTokenizerBase", turns: Sequence[dict[str, str]], generation: bool) -> tuple[str, str]:
    """A conversation as its chat template writes it, see `rendered`: in a child process, for a template is a program. Raises BadSettings
    where that takes too long or too much memory, Stopped."""
    limits = Limits.from_environment()
    try:
        outcome, text = ask(
            "rgtg.prompts:rendered", template_of(tokenizer), list(turns), dict(tokenizer.special_tokens_map), generation,
            seconds=limits.render_seconds, memory_gb=limits.render_memory_gb,
            needs="transformers.utils.chat_template_utils",
        )  # fmt: skip
    except LimitPassed as error:
        do = "Choose the template `plain`, or raise RGTG_RENDER_SECONDS or RGTG_RENDER_MEMORY_GB."
        raise BadSettings(f"The chat template of this tokenizer {error.how}.", error.found, do) from error
    return outcome, text


def rendered(template: str, turns: list[dict[str, str]], special_tokens: dict[str, Any], generation: bool) -> tuple[str, str]:
    """("text", what the template writes), ("refused", its words) of turns that it does not take, ("failed", words) of an error in it."""
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        found: Any = render_jinja_template([turns], chat_template=template, add_generation_prompt=generation, **special_tokens)
        return "text", str(found[0][0])
    except MemoryError:
        raise
    except TemplateError as error:
        return "refused", words_of(error)
    except Exception as error:  # whatever a template's own code runs into
        return "failed", words_of(error)


def encode_response(
    tokenizer: "PreTrainedTokenizerBase", prompt: str | Sequence[Message], prompt_ids: Sequence[int], response: str, template: str = "plain"
) -> tuple[int, ...]:
    """The ids of a response behind `prompt_ids`, without an end token: as one text with the prompt where that leaves the
    prompt's ids as they are, else as a text of its own. In a plain conversation a space parts it from what is asked, as in
    its earlier turns and as a model would go on; a prompt that is a text is followed as it is."""
    if template == "plain":
        text = prompt if isinstance(prompt, str) else transcript(prompt)
        if not isinstance(prompt, str) and not text[-1:].isspace() and not response[:1].isspace() and text and response:
            response = " " + response
        together = encode_prompt(tokenizer, text + response)
        if together[: len(prompt_ids)] == tuple(prompt_ids):
            return together[len(prompt_ids) :]
    return tuple(tokenizer(response, add_special_tokens=False, split_special_tokens=True)["input_ids"])


def closing(tokenizer: "PreTrainedTokenizerBase", template: str = "plain", system_prompt: str = "") -> tuple[int, ...]:
    """The ids that end an answer, wherever one is complete: in training, in generation, in a reward.

    `plain`: every special token that the tokenizer puts behind a text, else its end token; () where it has neither.
    `chat`: what the chat template writes behind an assistant's turn, up to the special tokens that close it (of
    `<end_of_turn>\\n` the first alone); a template that closes no turn ends as plain text does.
    """
    found = _closing_of_turn(tokenizer, system_prompt) if template == "chat" else ()
    end = () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,)
    return found or tuple(_open_and_appended(tokenizer, "a")[1]) or end


def _closing_of_turn(tokenizer: "PreTrainedTokenizerBase", system_prompt: str) -> tuple[int, ...]:
    """() where the template closes no turn, or renders none of the conversations tried: the answer last, else before a question."""
    if not template_of(tokenizer):
        return ()
    marks = {i for token, i in tokenizer.get_added_vocab().items() if token.strip()} | set(tokenizer.all_special_ids)
    asked, again = ({"role": "user", "content": content} for content in (ASKED, ASKED_AGAIN))
    system, answered = {"role": "system", "content": system_prompt or "Count."}, {"role": "assistant", "content": ANSWERED}
    for before, after in ([asked], []), ([system, asked], []), ([asked], [again]), ([system, asked], [again]):
        outcome, text = render(tokenizer, [*before, answered, *after], False)
        if outcome != "text":
            continue
        head, _, rest = text.partition(ASKED)
        _, there, tail = (rest.partition(ASKED_AGAIN)[0] if after else rest).rpartition(ANSWERED)
        ids = _ids_behind(tokenizer, ANSWERED, tail) if there else []
        first = next((i for i, token_id in enumerate(ids) if token_id in marks), None)
        if first is None:
            continue
        opening = [i for i in _ids_behind(tokenizer, "", head) if i in marks][-1:]
        if after:
            if ids[first] in opening:  # it is how the next question begins
                continue
            return tuple(ids[: first + 1])
        last = first
        while last + 1 < len(ids) and ids[last + 1] in marks and ids[last] != tokenizer.eos_token_id:
            last += 1
        return tuple(ids[: last + 1])
    return ()


def _ids_behind(tokenizer: "PreTrainedTokenizerBase", before: str, text: str) -> list[int]:
    """The ids of a text with its special tokens, as it stands behind another."""
    both, alone, own = (list(tokenizer(t, add_special_tokens=False)["input_ids"]) for t in (before + text, before, text))
    return both[len(alone) :] if both[: len(alone)] == alone else own


def transcript(messages: Sequence[Message]) -> str:
    """A conversation as plain text: one message of the user as it is, more as turns up to where the assistant's begins.

    >>> transcript([("user", "Hi"), ("assistant", "Hello."), ("user", "Why?")])
    'Human: Hi\\n\\nAssistant: Hello.\\n\\nHuman: Why?\\n\\nAssistant:'
    """
    if len(messages) == 1 and messages[0][0] == "user":
        return messages[0][1]
    names = {"user": "Human: ", "assistant": "Assistant: "}
    return "".join(f"{names.get(role, '')}{content}\n\n" for role, content in messages) + "Assistant:"


def check_rows(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int], num_rows: int) -> None:
    """Raises BadSettings, with the token, where an id has no row in the model."""
    if (missing := next((i for i in ids if i >= num_rows), None)) is not None:
        found = f"`{tokenizer.convert_ids_to_tokens(missing)}` has id {missing}; the model has {num_rows:,} rows."
        do = "Save the model again after `resize_token_embeddings`, or leave that token out."
        raise BadSettings("The tokenizer has a token that the model cannot read.", found, do)


def check_fits(num_prompt_tokens: int, max_new_tokens: int, name: str, context: int) -> None:
    """Raises PromptTooLong, with both numbers, where prompt and answer do not fit the context of a model."""
    if num_prompt_tokens + max_new_tokens > context:
        raise PromptTooLong(
            f"The prompt has {num_prompt_tokens:,} tokens; `{name}` reads {context:,} and {max_new_tokens:,} are kept for the answer.",
            "",
            "Shorten it, or lower the answer's length.",
        )


def decode(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> str:
    """The text of ids as it stands: special tokens are kept, blanks are not tidied."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


class TextStream:
    """Turns ids into text as they come; bytes wait until their character is whole.

    Joined, the pieces are the text of the response exactly. End tokens add nothing. (Where a tokenizer falls back to
    bytes and the model follows whole characters by bytes that are none, its decoder takes the characters back; we do not.)
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", prompt_ids: Sequence[int], eos_ids: frozenset[int] = frozenset()):
        self._tokenizer, self._eos = tokenizer, eos_ids
        self._window = list(prompt_ids)
        self._shorten(4)  # what stands before decides on leading spaces

    def _decode(self) -> str:
        return decode(self._tokenizer, self._window)

    def _shorten(self, num_ids: int) -> None:
        """Keeps the last ids, from a whole character on: a byte without its first spoils all bytes behind it."""
        whole = self._window
        for n in range(num_ids, num_ids + 4):
            self._window = whole[-n:]
            self._done = self._decode()
            if not self._done.startswith("\ufffd"):
                return
        self._window = whole
        self._done = self._decode()

    def push(self, token_id: int) -> str:
        """What this token adds, "" while a character is incomplete."""
        if token_id in self._eos:
            return ""
        self._window.append(token_id)
        text = self._decode()
        if text.endswith("\ufffd"):
            return ""
        new, self._done = _shown(text[len(self._done) :]), text
        if len(self._window) > 12:  # a short window is enough to decode the next piece
            self._shorten(4)
        return new

    def finish(self) -> str:
        """What is still waiting at the end: the replacement character for bytes that never became one."""
        text = self._decode()
        new, self._done = _shown(text[len(self._done) :]), text
        return new


def num_end_ids(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int], end: Sequence[int] = ()) -> int:
    """How many ids at the end of an answer are no text of it: special tokens, and the last of `end`, which closes a turn."""
    return next((i for i, token_id in enumerate(reversed(ids)) if token_id not in end[-1:] and not is_special(tokenizer, token_id)), len(ids))


def is_special(tokenizer: "PreTrainedTokenizerBase", token_id: int) -> bool:
    """Those without a name too, such as `<end_of_turn>`."""
    if token_id in tokenizer.all_special_ids:
        return True
    return bool(decode(tokenizer, [token_id])) and not tokenizer.decode([token_id], skip_special_tokens=True)


def pieces(tokenizer: "PreTrainedTokenizerBase", prompt_ids: Sequence[int], response_ids: Sequence[int], end: Sequence[int] = ()) -> list[str]:
    """What each id of a response adds to its text, as `TextStream` shows it; what ends it adds nothing (`num_end_ids`)."""
    stream, num = TextStream(tokenizer, prompt_ids), len(response_ids) - num_end_ids(tokenizer, response_ids, end)
    found = [stream.push(token_id) for token_id in response_ids[:num]]
    if found:
        found[-1] += stream.finish()
    return found + [""] * (len(response_ids) - num)


def says(
    tokenizer: "PreTrainedTokenizerBase", prompt_ids: Sequence[int], response_ids: Sequence[int], response: str, end: Sequence[int] = ()
) -> bool:
    """Whether ids behind a prompt are this text, but for blanks at its ends: what ends an answer may close them, half a character too."""
    ids, text = list(response_ids), _shown(response)
    ids = ids[: len(ids) - num_end_ids(tokenizer, ids, end)]
    before, after = (decode(tokenizer, i) for i in ([*prompt_ids], [*prompt_ids, *ids]))
    if after.startswith(before) and _shown(after[len(before) :]).strip() == text.strip():
        return True
    stream, at = TextStream(tokenizer, prompt_ids), 0
    for token_id in ids:
        piece = stream.push(token_id)
        if not text.startswith(piece, at):
            return False
        at += len(piece)
    return text[at:] in ("", stream.finish())


def _shown(text: str) -> str:
    return text.replace("\0", "\u2400")  # no database and no screen takes NUL; its symbol stands for it


class TokenTexts:
    """What single tokens look like in a table of candidates; asked often, so remembered."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase"):
        special = set(tokenizer.all_special_ids)

        @lru_cache(maxsize=65536)
        def text(token_id: int) -> str:
            shown = decode(tokenizer, [token_id])
            piece = tokenizer.convert_ids_to_tokens(token_id)
            if token_id not in special and isinstance(piece, str) and piece.startswith("\u2581") and not shown.startswith(" "):
                shown = " " + shown  # SentencePiece drops the leading space of a lone piece
            if "\ufffd" in shown or not shown:
                return f"⟨{token_id if piece is None else piece}⟩"
            return shown

        self.text = text
