"""Engines that run the shards of a sweep: in this process, in a pool of processes, and as Ray Data."""
