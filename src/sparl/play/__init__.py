"""Show a trained agent in the simulator's window, or record it in a video."""
