"""From samples, targets and conversations to training rows: mixture, corpus, examples, token budget, sampler."""
