"""Files: atomic writes, locks, disk errors, keyed random numbers, versions."""
