"""rgtg: a workbench for reward-guided text generation. The library knows nothing of Gradio."""

__version__ = "0.1.0"
