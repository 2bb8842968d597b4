"""Writes the results of a run: weights that plain diffusers loads, a model card, samples."""
