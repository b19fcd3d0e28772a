"""Stage *sample*: the policy writes candidates."""
