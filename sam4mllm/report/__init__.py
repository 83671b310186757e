"""Self-contained HTML pages of predictions and their metrics. Runs no model."""
