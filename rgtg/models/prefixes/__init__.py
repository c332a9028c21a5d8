"""Growing prefixes: what a causal model has computed of them, and how it is kept. Knows nothing of heads, rewards, methods or text."""
