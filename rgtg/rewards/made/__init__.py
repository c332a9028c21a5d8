"""Rewards that a person makes from a few fields: rules, follow-ups, questions to a language model."""
