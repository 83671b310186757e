"""Boxes, points, prompts and masks in pixels of the original image, and where to click. Knows no model and no file."""
