"""Stage *train*: a trainer makes a better policy."""
