"""Named protocols, the runner that generates, scores and reports, and the blind A/B page for human judges."""
