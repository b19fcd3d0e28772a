"""A trainer that distils a run's ratings into a small reward model."""
