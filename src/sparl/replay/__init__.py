"""Experience replay: the replay buffer and its dynamic capacity."""
