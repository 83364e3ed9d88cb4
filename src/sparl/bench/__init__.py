"""Measure the speed of sparl's parts on this machine, and of other libraries for comparison."""
