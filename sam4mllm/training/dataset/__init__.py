"""Training rows from samples, targets and conversations: mixture, corpus, examples, token budget, sampler."""
