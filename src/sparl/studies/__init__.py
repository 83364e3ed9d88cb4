"""Studies: sets of runs that are described in a file and trained in separate folders."""
