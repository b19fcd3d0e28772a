"""A judge in this process: any causal language model that Hugging Face transformers loads."""
