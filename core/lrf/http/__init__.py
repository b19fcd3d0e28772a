"""The kit for judges and embedders behind an HTTP address."""
