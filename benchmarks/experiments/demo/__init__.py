"""The whole method on the embedded task in minutes: real files, real commands, an exact score, one page to look at."""
