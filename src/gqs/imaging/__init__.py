"""Arrays in, arrays out: frames, one pixel grid, colour pictures, sources, cutouts, magnitudes."""
