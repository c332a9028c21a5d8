"""Settings of columns as text, files and rows: line-ups, copies, mixes, rewards that a person makes."""
