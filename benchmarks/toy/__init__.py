"""The embedded task: small captioned images and clips with an exact preference score, so that everything runs offline."""
