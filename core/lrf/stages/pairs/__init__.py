"""Stage *pairs*: from rewards to preference pairs."""
