"""Several processes: ranks, a shared store, progress, signals, sharded tensors."""
