"""Frames, alignment, detection and photometry: arrays in, arrays out."""
