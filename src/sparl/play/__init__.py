"""Something to watch: a trained agent in the simulator's window, or in a video."""
