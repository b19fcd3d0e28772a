"""What a pipeline will ask for, before it asks."""
