"""Reads and writes image files, and draws masks, boxes and points on images."""
