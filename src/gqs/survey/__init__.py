"""Where the sky comes from: the archive's facts, and a simulated survey in the same files."""
