"""What the trainers share: models and tokenizers, token counts, checkpoints, the log of steps. No trainer itself."""
