"""Runs: one configuration, one seed, one folder."""
