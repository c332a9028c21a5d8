"""What there is to read of an answer, a method or the votes: cost, other answers, Help, results."""
