"""A dimension that is declared: a list of what an answer must have and must not have, with weights."""
