"""What a trained run gives: weights that plain diffusers loads, a model card, samples."""
