"""A judge and a sampler in this process: any causal language model of Hugging Face transformers."""
