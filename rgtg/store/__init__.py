"""What is kept: comparisons, traces, votes and marks in one SQLite file that one thread writes."""
