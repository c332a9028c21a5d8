"""The database: comparisons, traces, votes and marks in one SQLite file with one writer thread."""
