"""Annotation: tasks, which pair a rater sees next, and what he says of it."""
