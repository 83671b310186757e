"""How the embedded `tiny` models were trained: run from a checkout, not part of the package."""
