"""Archives, which contain the small files of finished runs."""
