"""Train agents. A run trains one configuration with one seed, and has a folder to itself."""
