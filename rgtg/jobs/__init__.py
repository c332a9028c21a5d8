"""Trainings in the background: processes, their folders and rows."""
