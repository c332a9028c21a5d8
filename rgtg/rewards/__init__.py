"""Reward models: one interface, several kinds."""
