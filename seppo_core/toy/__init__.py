"""The embedded task: captions, clean drawings and the exact score of small pictures and clips."""
