"""Studies: sets of runs that a file describes, each of which is trained in a separate folder."""
