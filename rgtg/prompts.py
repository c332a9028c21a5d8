"""Encoding of prompts and responses to token ids, and decoding of ids to text: the one place for both.

Works on tokenizers alone. Knows nothing of models, methods or the screen.
"""

from collections.abc import Sequence
from copy import copy
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
ASKED, ANSWERED, ASKED_AGAIN = "Forty-one", "Forty-two", "Forty-three"  # texts that no template contains


def check_text(text: str, name: str) -> None:
    """Raise BadData if a text, called `name`, contains characters that can be neither encoded nor stored."""
    if unsound_character := unsound(text):
        kind, index = unsound_character
        raise BadData(f"The {name} holds {kind}.", f"It is character {index + 1:,}.", "Write it in complete characters, in UTF-8.")


def encode_prompt(
    tokenizer: "PreTrainedTokenizerBase", prompt: str | Sequence[Message], template: str = "plain", system_prompt: str = ""
) -> tuple[int, ...]:
    """Ids of a prompt, which a response follows.

    `plain`: the tokenizer's start token, if it has one, and the prompt as it is, or the `transcript` of a conversation.
    `chat`: the tokenizer's chat template with the system prompt, up to the beginning of the assistant's turn.
    Special tokens written out in the prompt stay text. Raises BadSettings if the result would be empty.
    """
    if template not in TEMPLATES:
        raise BadSettings(f"There is no template `{template}`.", f"The templates are: {', '.join(TEMPLATES)}.")
    if template == "chat":
        return _encode_chat(tokenizer, prompt, system_prompt)
    text = prompt if isinstance(prompt, str) else transcript(prompt)
    ids, _ = _open_and_appended(tokenizer, text)  # some tokenizers append an end token to every text
    if not ids:
        start = next((i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None), None)
        if start is None:
            raise BadSettings("The prompt is empty.", "This tokenizer has no start token to begin from.", "Type a prompt, or pick an example.")
        ids = [start]
    return tuple(ids)


def _open_and_appended(tokenizer: "PreTrainedTokenizerBase", text: str) -> tuple[list[int], list[int]]:
    """Ids of a text with the special tokens that the tokenizer prepends, and separately the special tokens that it appends."""
    encoding = tokenizer(text, split_special_tokens=True, return_special_tokens_mask=True)
    ids, added = list(encoding["input_ids"]), list(encoding["special_tokens_mask"])
    if 0 not in added:  # an empty text does not separate prepended from appended tokens
        num = len(_open_and_appended(tokenizer, "a")[1]) if text != "a" else len(ids) - (ids[:1] == [tokenizer.bos_token_id])
    else:
        num = added[::-1].index(0)
    return ids[: len(ids) - num], ids[len(ids) - num :]


def _encode_chat(tokenizer: "PreTrainedTokenizerBase", prompt: str | Sequence[Message], system_prompt: str) -> tuple[int, ...]:
    if not getattr(tokenizer, "chat_template", None):
        raise BadSettings("This tokenizer has no chat template.", "", "Choose the template `plain`, or a model made for chat.")
    if isinstance(templates := tokenizer.chat_template, dict) and "default" not in templates:
        names = f"It has: {', '.join(map(repr, templates))}."
        do = "Choose the template `plain`, or name one of them `default` in its tokenizer_config.json."
        raise BadSettings("This tokenizer has several chat templates, and none is its default.", names, do)
    messages = [("user", prompt)] if isinstance(prompt, str) else list(prompt)
    if system_prompt and (not messages or messages[0][0] != "system"):
        messages.insert(0, ("system", system_prompt))
    turns = [{"role": role, "content": content} for role, content in messages]
    outcome, text = render(tokenizer, turns, True)
    if outcome == "refused":  # some templates accept no system role, or only alternating turns
        do = "Choose the template `plain`." if messages[0][0] != "system" else "Leave the system prompt empty, or choose the template `plain`."
        raise BadSettings("The chat template of this tokenizer refuses these messages.", f"It says: {text}", do)
    wrong, do = "The chat template of this tokenizer cannot be used.", "Choose the template `plain`."
    if outcome == "failed":
        raise BadSettings(wrong, f"It fails: {text}", do)
    with door(wrong, do, BadSettings):
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def template_of(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Chat template of a tokenizer, of several the one named `default`; "" without one."""
    template = getattr(tokenizer, "chat_template", None)
    return str((template.get("default") if isinstance(template, dict) else template) or "")


def render(tokenizer: "PreTrainedTokenizerBase", turns: Sequence[dict[str, str]], generation: bool) -> tuple[str, str]:
    """Outcome of `rendered` in a child process under limits, since a template is a program. Raises BadSettings if it takes too long or too
    much memory, and Stopped."""
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
    """("text", the rendered conversation); ("refused", message) if the template raises; ("failed", message) for any other error in it."""
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        rendering: Any = render_jinja_template([turns], chat_template=template, add_generation_prompt=generation, **special_tokens)
        return "text", str(rendering[0][0])
    except MemoryError:
        raise
    except TemplateError as error:
        return "refused", words_of(error)
    except Exception as error:  # the code of a template can raise anything
        return "failed", words_of(error)


def encode_response(
    tokenizer: "PreTrainedTokenizerBase", prompt: str | Sequence[Message], prompt_ids: Sequence[int], response: str, template: str = "plain"
) -> tuple[int, ...]:
    """Ids of a response behind `prompt_ids`, without an end token.

    Prompt and response are encoded as one text if that leaves the prompt's ids unchanged, else the response alone. In a plain conversation a
    space separates it from the prompt, as in earlier turns; a prompt that is a text is followed directly.
    """
    if template == "plain":
        text = prompt if isinstance(prompt, str) else transcript(prompt)
        if not isinstance(prompt, str) and not text[-1:].isspace() and not response[:1].isspace() and text and response:
            response = " " + response
        together = encode_prompt(tokenizer, text + response)
        if together[: len(prompt_ids)] == tuple(prompt_ids):
            return together[len(prompt_ids) :]
    return tuple(tokenizer(response, add_special_tokens=False, split_special_tokens=True)["input_ids"])


def closing(tokenizer: "PreTrainedTokenizerBase", template: str = "plain", system_prompt: str = "") -> tuple[int, ...]:
    """Ids that end a complete answer, the same in training, in generation and for a reward.

    `plain`: all special tokens that the tokenizer appends to a text, else its end token; () if it has neither.
    `chat`: what the chat template writes after an assistant's turn, up to the special tokens that close it (of `<end_of_turn>\\n` the first
    alone); as `plain` if the template closes no turn.
    """
    of_turn = _closing_of_turn(tokenizer, system_prompt) if template == "chat" else ()
    end = () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,)
    return of_turn or tuple(_open_and_appended(tokenizer, "a")[1]) or end


def _closing_of_turn(tokenizer: "PreTrainedTokenizerBase", system_prompt: str) -> tuple[int, ...]:
    """Ids that close an assistant's turn, from rendered conversations with the answer last, or else before a second question; () if none do."""
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
        _, answer, tail = (rest.partition(ASKED_AGAIN)[0] if after else rest).rpartition(ANSWERED)
        ids = _ids_behind(tokenizer, ANSWERED, tail) if answer else []
        first = next((i for i, token_id in enumerate(ids) if token_id in marks), None)
        if first is None:
            continue
        opening = [i for i in _ids_behind(tokenizer, "", head) if i in marks][-1:]
        if after:
            if ids[first] in opening:  # it opens the next question
                continue
            return tuple(ids[: first + 1])
        last = first
        while last + 1 < len(ids) and ids[last + 1] in marks and ids[last] != tokenizer.eos_token_id:
            last += 1
        return tuple(ids[: last + 1])
    return ()


def next_turn(tokenizer: "PreTrainedTokenizerBase", template: str = "plain", system_prompt: str = "") -> tuple[int, ...]:
    """Ids between an answer and what the user says next: in a chat template the end of the turn and the beginning of the user's, where
    the template shows them; () for plain text."""
    if template != "chat":
        return ()
    turns = [{"role": role, "content": content} for role, content in (("user", ASKED), ("assistant", ANSWERED), ("user", ASKED_AGAIN))]
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    outcome, text = render(tokenizer, [*system, *turns], False)
    between = text.partition(ANSWERED)[2].partition(ASKED_AGAIN)[0] if outcome == "text" else ""
    return tuple(_ids_behind(tokenizer, ANSWERED, between)) or closing(tokenizer, template, system_prompt)


def _ids_behind(tokenizer: "PreTrainedTokenizerBase", before: str, text: str) -> list[int]:
    """Ids of a text with its special tokens, in the context of the text before it."""
    both, alone, own = (list(tokenizer(t, add_special_tokens=False)["input_ids"]) for t in (before + text, before, text))
    return both[len(alone) :] if both[: len(alone)] == alone else own


def transcript(messages: Sequence[Message]) -> str:
    """Conversation as plain text: a single user message as it is, several as turns up to the beginning of the assistant's.

    >>> transcript([("user", "Hi"), ("assistant", "Hello."), ("user", "Why?")])
    'Human: Hi\\n\\nAssistant: Hello.\\n\\nHuman: Why?\\n\\nAssistant:'
    """
    if len(messages) == 1 and messages[0][0] == "user":
        return messages[0][1]
    names = {"user": "Human: ", "assistant": "Assistant: "}
    return "".join(f"{names.get(role, '')}{content}\n\n" for role, content in messages) + "Assistant:"


def check_rows(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int], num_rows: int) -> None:
    """Raise BadSettings, naming the token, if an id has no row in the model's embedding."""
    if (missing := next((i for i in ids if i >= num_rows), None)) is not None:
        token = f"`{tokenizer.convert_ids_to_tokens(missing)}` has id {missing}; the model has {num_rows:,} rows."
        do = "Save the model again after `resize_token_embeddings`, or leave that token out."
        raise BadSettings("The tokenizer has a token that the model cannot read.", token, do)


def check_fits(num_prompt_tokens: int, max_new_tokens: int, name: str, context: int) -> None:
    """Raise PromptTooLong if prompt and answer do not fit the context of the model `name`."""
    if num_prompt_tokens + max_new_tokens > context:
        raise PromptTooLong(
            f"The prompt has {num_prompt_tokens:,} tokens; `{name}` reads {context:,} and {max_new_tokens:,} are kept for the answer.",
            "",
            "Shorten it, or lower the answer's length.",
        )


def decode(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> str:
    """Text of ids, with special tokens and with spaces as they are."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


class TextStream:
    """Streaming decoder: turns ids into text one by one; bytes wait until their character is complete.

    The pieces joined are exactly the text of the response; end tokens add nothing. (A byte-fallback decoder may replace complete characters
    when the model continues them with invalid bytes; text that was already streamed is kept.)
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", prompt_ids: Sequence[int], eos_ids: frozenset[int] = frozenset()):
        self._tokenizer, self._eos = tokenizer, eos_ids
        self._window = list(prompt_ids)
        self._shorten(4)  # leading spaces depend on the preceding tokens

    def _decode(self) -> str:
        return decode(self._tokenizer, self._window)

    def _shorten(self, num_ids: int) -> None:
        """Keep the last ids, from the start of a complete character: a partial one would make all following bytes invalid."""
        window = self._window
        for n in range(num_ids, num_ids + 4):
            self._window = window[-n:]
            self._done = self._decode()
            if not self._done.startswith("\ufffd"):
                return
        self._window = window
        self._done = self._decode()

    def copy(self) -> "TextStream":
        """A decoder at the same place, which continues by itself."""
        other = copy(self)
        other._window = list(self._window)
        return other

    def push(self, token_id: int) -> str:
        """Text that this token adds; "" while a character is incomplete."""
        if token_id in self._eos:
            return ""
        self._window.append(token_id)
        text = self._decode()
        if text.endswith("\ufffd"):
            return ""
        new, self._done = _without_nul(text[len(self._done) :]), text
        if len(self._window) > 12:  # a short window is enough to decode the next piece
            self._shorten(4)
        return new

    def finish(self) -> str:
        """Remaining text at the end: the replacement character for an incomplete character."""
        text = self._decode()
        new, self._done = _without_nul(text[len(self._done) :]), text
        return new


def num_end_ids(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int], end: Sequence[int] = ()) -> int:
    """Number of ids at the end of an answer that are not text: special tokens, and the last of `end`, which closes a turn."""
    return next((i for i, token_id in enumerate(reversed(ids)) if token_id not in end[-1:] and not is_special(tokenizer, token_id)), len(ids))


def is_special(tokenizer: "PreTrainedTokenizerBase", token_id: int) -> bool:
    """Whether a token is special, also if it is only marked so in the vocabulary, as `<end_of_turn>`."""
    if token_id in tokenizer.all_special_ids:
        return True
    return bool(decode(tokenizer, [token_id])) and not tokenizer.decode([token_id], skip_special_tokens=True)


def pieces(tokenizer: "PreTrainedTokenizerBase", prompt_ids: Sequence[int], response_ids: Sequence[int], end: Sequence[int] = ()) -> list[str]:
    """Text that each id of a response adds, by `TextStream`; ids that end it (`num_end_ids`) add ""."""
    stream, num = TextStream(tokenizer, prompt_ids), len(response_ids) - num_end_ids(tokenizer, response_ids, end)
    texts = [stream.push(token_id) for token_id in response_ids[:num]]
    if texts:
        texts[-1] += stream.finish()
    return texts + [""] * (len(response_ids) - num)


def decodes_to(
    tokenizer: "PreTrainedTokenizerBase", prompt_ids: Sequence[int], response_ids: Sequence[int], response: str, end: Sequence[int] = ()
) -> bool:
    """Whether `response_ids` behind a prompt decode to `response`, up to spaces at its ends; end tokens and a partial character may follow."""
    ids, text = list(response_ids), _without_nul(response)
    ids = ids[: len(ids) - num_end_ids(tokenizer, ids, end)]
    before, after = (decode(tokenizer, i) for i in ([*prompt_ids], [*prompt_ids, *ids]))
    if after.startswith(before) and _without_nul(after[len(before) :]).strip() == text.strip():
        return True
    stream, position = TextStream(tokenizer, prompt_ids), 0
    for token_id in ids:
        piece = stream.push(token_id)
        if not text.startswith(piece, position):
            return False
        position += len(piece)
    return text[position:] in ("", stream.finish())


def _without_nul(text: str) -> str:
    return text.replace("\0", "\u2400")  # NUL cannot be stored or displayed; its symbol replaces it


class TokenTexts:
    """Text of single tokens in a table of candidates, cached."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase"):
        special = set(tokenizer.all_special_ids)

        @lru_cache(maxsize=65536)
        def text(token_id: int) -> str:
            decoded = decode(tokenizer, [token_id])
            piece = tokenizer.convert_ids_to_tokens(token_id)
            if token_id not in special and isinstance(piece, str) and piece.startswith("\u2581") and not decoded.startswith(" "):
                decoded = " " + decoded  # SentencePiece drops the leading space of a single piece
            if "\ufffd" in decoded or not decoded:
                return f"⟨{token_id if piece is None else piece}⟩"
            return decoded

        self.text = text
