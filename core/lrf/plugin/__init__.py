"""What a plugin says of itself, and how plugins are found, loaded and listed."""
