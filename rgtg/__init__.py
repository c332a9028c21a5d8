"""rgtg: a workbench for reward-guided text generation. The library knows nothing of Gradio.

`load_models`, `compare`, `to_frame`, `train`, `guided` are those of `rgtg.api`, loaded at first use.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["compare", "guided", "load_models", "to_frame", "train"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("rgtg.api"), name)
    raise AttributeError(f"module `rgtg` has no attribute `{name}`")
