"""Damages every kind of file that a base, a cache and a run consist of, and tells what each command makes of it."""
