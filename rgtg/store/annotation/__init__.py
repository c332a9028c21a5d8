"""What annotation stores: pairs of a task, raters' consent, flags, and the erasure of a rater's votes."""
