"""Code that every model family shares: the adapter interface, noise paths, sampling, tuning, loading."""
