"""What an agent learns from."""
