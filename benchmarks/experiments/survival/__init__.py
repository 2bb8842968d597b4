"""Kills a small run at random moments, over and over, and compares what comes out with an undisturbed one."""
