"""Weights, preprocessing and labels together: cutouts, fields and catalogues classified."""
