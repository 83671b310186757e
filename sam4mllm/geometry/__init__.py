"""Boxes, points, prompts and masks in pixels of the original image, and strategies for placing points."""
