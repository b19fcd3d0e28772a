"""The scoring engine: everything between a dimension and its judge."""
