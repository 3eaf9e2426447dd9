"""From frames to what a network learns from: stores, splits, preprocessing. Paper 3.4-3.5."""
