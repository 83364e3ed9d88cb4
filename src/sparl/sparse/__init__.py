"""Which connections exist, and how one set of them becomes another."""
