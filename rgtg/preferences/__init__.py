"""Votes and files become pairs, and pairs become batches."""
