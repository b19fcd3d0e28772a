"""Library of the trainers: models and tokenizers, tokenised rows, checkpoints, progress. Not a trainer itself."""
