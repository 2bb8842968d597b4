"""What training costs, part by part: ratios of variants that are timed in turn in one run."""
