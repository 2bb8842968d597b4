"""Feature networks, built to take the published weights."""
