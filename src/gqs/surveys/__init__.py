"""Facts about surveys: bands, pixels, detectors, field names."""
