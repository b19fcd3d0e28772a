"""Stage *score*: every candidate gets a reward, or a reason for having none."""
