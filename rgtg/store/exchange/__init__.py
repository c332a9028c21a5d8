"""Votes out of the database as data sets, and preferences from elsewhere into it."""
