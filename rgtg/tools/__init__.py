"""How the starter models were made, and the benchmarks."""
