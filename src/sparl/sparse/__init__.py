"""Connectivity patterns and their changes."""
