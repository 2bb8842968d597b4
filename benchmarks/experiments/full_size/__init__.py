"""Every family at the size of a published base: random weights on disk, the real commands, measured beside `plan`."""
