"""Mixes of rewards: how one is written, and the base samples that a standardised one is measured against."""
