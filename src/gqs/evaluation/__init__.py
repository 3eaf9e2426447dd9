"""Paper 4.1 and beyond: how right the predictions are, in numbers, figures and one page."""
