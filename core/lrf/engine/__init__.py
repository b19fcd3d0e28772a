"""The scoring engine: what stands between a dimension and its judge."""
