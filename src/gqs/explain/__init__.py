"""Explanations of classifications: what the result depends on, and similar training objects."""
