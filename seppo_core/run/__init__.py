"""The folder of a run: configuration, checkpoints, logs, health, status."""
