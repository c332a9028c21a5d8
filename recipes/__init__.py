"""Experiments of the literature as files: data sets, models, objectives and settings of each, and one runner for all."""
