"""The verbs of the app: compare, branch, vote, train. `from rgtg.workbench import Workbench` is where a program begins."""

from rgtg.workbench.workbench import Workbench

__all__ = ["Workbench"]
