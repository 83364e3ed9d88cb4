"""Train runs; a run is one configuration with one seed, in one folder."""
