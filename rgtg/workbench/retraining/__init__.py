"""Rounds of sampling from the guided policy, labelling by a judge, and training anew."""
