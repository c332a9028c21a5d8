"""Reward models of several kinds behind one face."""
