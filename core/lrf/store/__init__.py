"""What a run keeps: the journal of paid replies, the lock, and files that are renamed into place."""
