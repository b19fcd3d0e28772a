"""A stage that a test adds to lrf's own."""
