"""Bench: how fast this machine runs what sparl is made of, and what it is measured against."""
