"""A simulated survey in the archive's file formats."""
