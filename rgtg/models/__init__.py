"""Models as they come from transformers, and growing prefixes over them with a cache of our own."""
