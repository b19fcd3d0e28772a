"""``lrf serve``: a pipeline's rewards over HTTP, for whatever trains on them."""
