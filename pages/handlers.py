"""Helpers of all handlers: exceptions as messages for the screen, and checks of values from the browser."""

import functools
import html
import inspect
import json
import logging
import math
import re
import secrets
from collections.abc import Callable
from contextlib import ExitStack, suppress
from operator import is_
from typing import Any, TypeVar

import gradio as gr
from gradio.context import LocalContext

from pages import access, admission
from pages.crowd import crowd_of
from pages.signing_in import administers
from rgtg.errors import HALF, BadSettings, RgtgError, is_disk_full, unsound
from rgtg.workbench.workbench import Workbench

log = logging.getLogger(__name__)
Handler = Callable[..., Any]  # what a component's event calls
Fn = TypeVar("Fn", bound=Handler)
NO_EVENT = gr.EventData(None, None)  # the default of a handler that is called by a plain click, too; Gradio reads its type
ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
MAX_JSON, MAX_DEPTH = 20_000, 16  # of a value that is JSON: characters, and objects and lists in one another
MAX_WORDS = 1_000  # characters of a message


def in_words(error: Exception, doing: str) -> str:
    """The message for the screen: the text of an RgtgError; for any other exception a reference number that is in the log, too."""
    if isinstance(error, RgtgError):
        return sendable(str(error) if len(str(error)) <= MAX_WORDS else f"{str(error)[:MAX_WORDS]} …")
    if is_disk_full(error):
        return f"{doing} failed: the disk is full. Free some space and try again."
    reference = secrets.token_hex(2)
    log.error("%s failed (reference %s)", doing, reference, exc_info=error)
    return f"{doing} failed (reference {reference}). Your prompt is kept. Try again, or give the reference to whoever runs this app."


def screen_error(message: str, field: str = "") -> gr.Error:
    """An error that errors.js shows next to the input `field`, or next to the button that was pressed; Gradio's own toasts would cover
    the page. Escaped, because Gradio takes a message for HTML and a word may come from a model."""
    return gr.Error(html.escape(sendable(message), quote=False), duration=None, visible=False, title=field, print_exception=False)


def warn(message: str) -> None:
    """Show a warning about an action that was not refused, as `screen_error` shows an error."""
    gr.Warning(html.escape(sendable(message), quote=False), duration=None, visible=False)


def _as_screen_error(error: Exception, doing: str) -> gr.Error:
    return screen_error(in_words(error, doing), error.field if isinstance(error, RgtgError) else "")


def sendable(value: Any) -> Any:
    """The value with a sign in place of what no stream of answers can carry: half a character, of a file's name for instance, would end it.

    A value with nothing to replace is given back itself: what a page keeps between events may be changed in place.
    """
    if isinstance(value, str):
        return value if value.isascii() else HALF.sub("\ufffd", value)
    if isinstance(value, dict):
        cleaned = {key: sendable(item) for key, item in value.items()}
        return value if all(cleaned[key] is item for key, item in value.items()) else cleaned
    if isinstance(value, list):
        items = [sendable(item) for item in value]
        return value if all(map(is_, items, value)) else items
    return value


def guarded(doing: str, workbench: Workbench | None) -> Callable[[Fn], Fn]:
    """Wraps a handler: it refuses whom `pages.access` does not name, and who asks too often; any exception becomes a `gr.Error` with words, one
    that is a `gr.Error` already passes through; answers are `sendable`. `workbench` is None for one that needs none."""

    def wrap(fn: Any) -> Any:
        name = access.name_of(fn)
        if inspect.isgeneratorfunction(fn):

            @functools.wraps(fn)
            def stream(*args: Any, **kwargs: Any) -> Any:
                answers: Any = iter(())
                slot = ExitStack()  # may be left in another thread than it was entered in
                try:
                    _admit(name, workbench)
                    slot.enter_context(admission.computing(name, workbench))
                    answers = fn(*args, **kwargs)
                    for answer in answers:
                        yield sendable(answer)
                except gr.Error:
                    raise
                except Exception as error:
                    raise _as_screen_error(error, doing) from None
                finally:
                    getattr(answers, "close", bool)()  # a tab that was closed ends the work
                    slot.close()

            return stream

        @functools.wraps(fn)
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                _admit(name, workbench)
                with admission.computing(name, workbench):
                    return sendable(fn(*args, **kwargs))
            except gr.Error:
                raise
            except Exception as error:
                raise _as_screen_error(error, doing) from None

        return call

    return wrap


def _admit(name: str, workbench: Workbench | None) -> None:
    """Check that a handler may work for whoever sent the request that Gradio is answering. Raises BadSettings, or TooMany."""
    crowd = crowd_of(workbench) if workbench is not None else None
    if workbench is None or crowd is None:
        return access.check(name, public=False)
    request = LocalContext.request.get(None)
    crowd.check_visitor(request)
    access.check(name, True, administers(workbench.settings, request))


def read_text(value: object, name: str, limit: int, do: str = "Enter one.", field: str = "") -> str:
    """Text of the page, not blank; raises BadSettings where it is too long, or holds what can be neither stored nor sent. `field` is its
    input's name where that is not `name`."""
    field = field or name
    if not isinstance(value, str) or not value.strip():
        raise BadSettings(f"There is no {name}.", "" if isinstance(value, str) or value is None else f"Found {quoted(value)}.", do, field)
    if len(value) > limit:
        raise BadSettings(f"The {name} has {len(value):,} characters; the limit is {limit:,}.", "", "Shorten it.", field)
    if problem := unsound(value):
        do = "Remove it, or type the text again."
        raise BadSettings(f"The {name} contains {problem[0]}.", f"It is character {problem[1] + 1:,}.", do, field)
    return value


def read_json(text: object, what: str) -> dict:
    """A JSON object from the browser with texts as `read_text` takes them; raises BadSettings where it is something else, too long or too deep.

    Its fields may be of any type; numbers may be infinite or none.
    """
    value: Any = None
    if isinstance(text, str) and len(text) <= MAX_JSON:
        with suppress(ValueError, RecursionError):  # no JSON, a number of thousands of digits; too deep
            value = json.loads(text)
    why = _why_unsound(value) if isinstance(value, dict) else f"It has to be a JSON object of up to {MAX_JSON:,} characters."
    if why:
        raise BadSettings(f"The {what} of this page could not be read.", why, "Reload the page.")
    return value


def _why_unsound(value: object, depth: int = 0) -> str:
    """Why a value from JSON, or one inside it, cannot be used; "" if it can."""
    if depth > MAX_DEPTH:
        return "It is nested too deeply."
    if isinstance(value, str):
        problem = unsound(value)
        return f"It contains {problem[0]}." if problem else ""
    items = (*value, *value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next(filter(None, (_why_unsound(item, depth + 1) for item in items)), "")


def _is_finite(value: float | int) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def quoted(value: object) -> str:
    """The start of the `repr` of any value, for a message."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # too many digits, too deep
        text = f"something of the type {type(value).__name__}"
    return text if len(text) <= 40 else f"{text[:40]} …"


def read_number(value: object, name: str, low: float, high: float, whole: bool = False, field: str = "") -> float | int:
    """A finite number between `low` and `high`; raises BadSettings naming it and its range. `field` is its input's name where that is
    not `name`."""
    number = value if isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value) else None
    if number is None or not low <= number <= high or (whole and number != int(number)):
        kind, limits = "a whole number" if whole else "a number", " and ".join(f"{end:,}" if whole else f"{end:g}" for end in (low, high))
        raise BadSettings(
            f"`{name}` has to be {kind} between {limits}.", f"Found {quoted(value)}.", "Correct it, then press Generate.", field or name
        )
    return int(number) if whole else float(number)


def read_id(value: object, what: str) -> str:
    """The value as an id of the records; raises BadSettings if it cannot be one."""
    if not isinstance(value, str) or not ID.fullmatch(value):
        raise BadSettings(f"That {what} is unknown.", "", "Reload the page.")
    return value


def payload(event: gr.EventData | None) -> dict:
    """The data of a component's own event, unchecked; {} for a plain click."""
    data = getattr(event, "_data", None)
    return data if isinstance(data, dict) else {}
