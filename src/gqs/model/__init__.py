"""A classifier: weights, preprocessing, calibration, novelty and the engines that compute it."""
