"""Networks that store and compute only their existing connections."""
