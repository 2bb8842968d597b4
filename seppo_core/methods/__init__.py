"""Training methods, a file each, on a common step from a batch of latents to errors; references."""
