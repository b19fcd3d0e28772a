"""``lrf export`` and ``lrf import``: the files of other tools, from a run and into rows of data."""
