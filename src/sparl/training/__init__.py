"""Train agents. A run trains one agent with one configuration and seed, in its own folder."""
