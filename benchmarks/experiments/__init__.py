"""Experiments on the embedded task, and measurements of the suite itself."""
