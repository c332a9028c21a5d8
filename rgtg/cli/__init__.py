"""The verbs of the workbench in a terminal."""
