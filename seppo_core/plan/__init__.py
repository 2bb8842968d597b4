"""What a run would take in memory, compute, disk and hours, counted without weights."""
