"""The verbs of the app: compare, branch, vote, train."""
