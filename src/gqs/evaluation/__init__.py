"""Predictions compared with the truth: metrics with intervals, calibration, and a baseline."""
