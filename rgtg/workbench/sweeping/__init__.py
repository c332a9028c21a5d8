"""Sweeps in the background, as the page Sweep needs them: the grid, the process, and the results so far."""
