"""Studies: train the runs that one file names, each in its own folder."""
