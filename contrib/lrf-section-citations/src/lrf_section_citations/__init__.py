"""A dimension for lrf that rewards answers citing the document's sections."""
