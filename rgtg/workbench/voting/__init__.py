"""Votes of strangers on a public server: what is checked before one is stored."""
