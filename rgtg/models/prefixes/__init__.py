"""Growing prefixes with the cache of a causal model. Knows nothing of heads, rewards, methods or text."""
