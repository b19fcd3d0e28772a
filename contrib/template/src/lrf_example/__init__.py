"""A dimension for lrf: an example to copy."""
