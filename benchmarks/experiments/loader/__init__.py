"""Memory and speed of preparation and of the loader over a synthetic set of any size."""
