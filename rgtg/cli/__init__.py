"""The command line of rgtg."""
