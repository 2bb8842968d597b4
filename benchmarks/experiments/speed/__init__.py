"""Measures what training costs, part by part, as ratios of variants that are timed in turn in one run."""
