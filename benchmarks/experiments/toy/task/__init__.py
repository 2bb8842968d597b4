"""The embedded task: small captioned images and clips with an exact preference score, all offline."""
