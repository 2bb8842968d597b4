"""Building blocks of self-contained HTML reports: tables, charts, grids of pictures and playing clips."""
