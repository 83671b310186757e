"""Calibration: chooses PQPP's layout, number of points and thresholds on a validation split."""
