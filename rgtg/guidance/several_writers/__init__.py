"""Methods that compare language models, let several of them write, or let a person choose."""
