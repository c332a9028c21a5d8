"""What a reward model knows of prefixes, measured on pairs: `figures` of rewards, and `reading` them from models."""
