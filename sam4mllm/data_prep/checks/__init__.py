"""Checks of a conversion: official counts, values that can be written, and images that must not be trained on."""
