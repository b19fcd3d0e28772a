"""``lrf agree``: how well a run's rewards agree with people."""
