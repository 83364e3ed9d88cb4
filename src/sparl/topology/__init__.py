"""How sparse connectivity is chosen and how it changes."""
