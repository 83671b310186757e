"""Converts raw annotations to samples: readers, checks, conversion, downloads and previews.

Each data set has one file in `readers`. Nothing here loads an MLLM.
"""
