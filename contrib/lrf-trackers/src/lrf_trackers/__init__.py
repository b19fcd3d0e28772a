"""lrf's runs in experiment trackers."""
