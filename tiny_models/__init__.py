"""Training code of the embedded `tiny` models; runs from a checkout and is not part of the package."""
