"""Agents: act and update. They know nothing of topology, environments or logging."""
