"""Reports: what runs came to, as statistics, tables and pictures."""
