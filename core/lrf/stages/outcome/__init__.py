"""A run that has been scored, read back: samples with candidates, rewards, judgements and the words they rest on."""
