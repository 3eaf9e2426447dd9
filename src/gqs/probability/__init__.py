"""What to do with class probabilities: priors, label shift, conformal sets, candidate lists."""
