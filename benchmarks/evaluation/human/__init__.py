"""A blind comparison by people: a page that works without a server, and the counting of its votes."""
