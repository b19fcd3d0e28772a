"""``lrf report``: a run as one page that opens from disk, as Markdown, or as JSON."""
