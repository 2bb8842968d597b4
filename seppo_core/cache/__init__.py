"""Encoded winners on disk: written once by `prepare`, read at every step."""
