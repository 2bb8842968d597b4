"""The losses, and the training step from a batch of latents to a loss."""
