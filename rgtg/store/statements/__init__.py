"""Statements of the migrations that are long, a module each; `schema` applies them in order."""
