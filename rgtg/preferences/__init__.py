"""From votes and files to pairs, and from pairs to batches."""
