"""Raw annotations in, samples out: readers, checks, conversion, downloads and previews.

One data set is one file in `readers`. Knows no model.
"""
