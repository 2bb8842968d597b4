"""Estimates memory, compute, disk and hours of a run without loading weights."""
