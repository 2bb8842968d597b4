"""The training loop and its parts: batches, prefetching, reference samples, optimizer, previews."""
