"""Report the results of runs as statistics, tables and figures."""
