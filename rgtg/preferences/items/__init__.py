"""What a row of a source is read as."""
