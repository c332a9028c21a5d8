"""What every handler shares: errors in words, and values from the browser that are checked before use."""

import functools
import html
import inspect
import json
import logging
import math
import re
import secrets
from collections.abc import Callable
from typing import Any, TypeVar

import gradio as gr

from rgtg.errors import BadSettings, RgtgError, is_disk_full

log = logging.getLogger(__name__)
Handler = Callable[..., Any]  # what a component's event calls
Fn = TypeVar("Fn", bound=Handler)
NO_EVENT = gr.EventData(None, None)  # the default of a handler that is called by a plain click, too; Gradio reads its type
ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


def in_words(error: Exception, doing: str) -> str:
    """The sentence for the screen: the error's own words, or a reference number that also stands in the log."""
    if isinstance(error, RgtgError):
        return str(error)
    if is_disk_full(error):
        return f"{doing} failed: the disk is full. Free some space and do it again."
    reference = secrets.token_hex(2)
    log.error("%s failed (reference %s)", doing, reference, exc_info=error)
    return f"{doing} failed (reference {reference}). Your prompt is kept. Try again, or pass the reference to whoever runs this."


def shown(words: str) -> gr.Error:
    """The words as a message that stays until it is closed. Escaped: Gradio shows messages as HTML, and a word may be a model's."""
    return gr.Error(html.escape(words, quote=False), duration=None, print_exception=False)


def warn(words: str) -> None:
    gr.Warning(html.escape(words, quote=False), duration=None)


def guarded(doing: str) -> Callable[[Fn], Fn]:
    """Wraps a handler: any exception becomes a `gr.Error` with words; one that is a `gr.Error` already passes through."""

    def wrap(fn: Any) -> Any:
        if inspect.isgeneratorfunction(fn):

            @functools.wraps(fn)
            def stream(*args: Any, **kwargs: Any) -> Any:
                try:
                    yield from fn(*args, **kwargs)
                except gr.Error:
                    raise
                except Exception as error:
                    raise shown(in_words(error, doing)) from None

            return stream

        @functools.wraps(fn)
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return fn(*args, **kwargs)
            except gr.Error:
                raise
            except Exception as error:
                raise shown(in_words(error, doing)) from None

        return call

    return wrap


def read_json(text: object, what: str) -> dict:
    """A JSON object from the browser; raises BadSettings where it is something else or too long."""
    try:
        found = json.loads(text) if isinstance(text, str) and len(text) <= 20_000 else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BadSettings(f"The {what} of this page could not be read.", "", "Reload the page.")
    return found


def read_number(value: object, name: str, low: float, high: float, whole: bool = False) -> float | int:
    """A finite number between `low` and `high`; raises BadSettings naming the field and its range."""
    number = value if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) else None
    if number is None or not low <= number <= high or (whole and number != int(number)):
        kind = "a whole number" if whole else "a number"
        raise BadSettings(f"`{name}` has to be {kind} between {low:g} and {high:g}.", f"Found {value!r:.40}.", "Correct it, then press Generate.")
    return int(number) if whole else float(number)


def read_id(value: object, what: str) -> str:
    """An id as the records make them; raises BadSettings otherwise."""
    if not isinstance(value, str) or not ID.fullmatch(value):
        raise BadSettings(f"That {what} is not known here.", "", "Reload the page.")
    return value


def payload(event: gr.EventData | None) -> dict:
    """What a component's own event carries; {} for a plain click."""
    data = getattr(event, "_data", None)
    return data if isinstance(data, dict) else {}
