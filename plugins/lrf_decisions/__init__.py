"""Judges that decide: decision models behind OpenAI's Decisions API or the System One API."""
