"""Third-party judges as processes: each runs in an environment of its own, imports nothing of ours but `serve`."""
