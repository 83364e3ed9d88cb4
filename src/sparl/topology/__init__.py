"""Sparse topology: densities, initial patterns, and drop and grow rules."""
