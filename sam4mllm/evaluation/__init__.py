"""Metrics, their confidence intervals, and where IoU is lost.

Reads samples and predictions; runs an MLLM only to calibrate.
"""
