"""``lrf view``: a small server on this machine for looking through a run, and for labelling its answers."""
