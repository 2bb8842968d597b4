"""The whole comparison on the embedded task: every method, tuned alike, over seeds, judged by the exact score."""
