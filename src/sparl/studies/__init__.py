"""Studies: many runs from one file, each in a folder of its own."""
