"""Examinations of reward models for a page: asked for, running in a thread, and their figures as text and drawings."""
