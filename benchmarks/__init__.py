"""Evidence: the embedded toy task, and the tables measured on it. Used from a checkout, not installed."""
