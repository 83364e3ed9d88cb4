"""Archives of finished runs."""
