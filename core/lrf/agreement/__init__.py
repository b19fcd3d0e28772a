"""How well a run's rewards agree with people."""
