"""Token rules that compare language models, or let a person choose."""
