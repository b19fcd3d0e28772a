"""A dimension rated by a sequence classifier: a reward model in place of a judge."""
