"""ZeroGPU of Hugging Face Spaces: `spaces`, imported before torch where it runs; elsewhere the decorator does nothing.

A function that is given a GPU runs in a process forked from this one: its argument and what it yields are pickled, and what it changes is lost.
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar

from rgtg.errors import BadSettings

Function = TypeVar("Function", bound=Callable[..., Any])
ACTIVE = bool(os.environ.get("SPACES_ZERO_GPU"))

if ACTIVE:
    import spaces  # type: ignore[import-not-found]  # only there; it replaces parts of torch, so it comes first


def gpu(duration: Callable[..., float]) -> Callable[[Function], Function]:
    """Give a generator function a GPU for as many seconds as `duration` says of the same arguments."""
    return spaces.GPU(duration=duration) if ACTIVE else lambda function: function


def refuse(what: str) -> None:
    """Raise BadSettings on ZeroGPU, where a GPU is lent for seconds and only to the comparison that is running."""
    if ACTIVE:
        do = "Run rgtg on a machine of your own, or on a Space with its own GPU."
        raise BadSettings(f"{what} is not possible on this Space.", "It runs on ZeroGPU, which lends a GPU for some seconds at a time.", do)
