"""Calibration: PQPP's layout, number of points and thresholds, chosen on a validation split."""
