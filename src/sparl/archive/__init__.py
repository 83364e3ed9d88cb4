"""Archives: finished runs, kept and recognised."""
