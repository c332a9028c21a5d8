"""What the app does: compare, branch, vote, train. Programs start with `from rgtg.workbench import Workbench`."""

from rgtg.workbench.workbench import Workbench

__all__ = ["Workbench"]
