"""Success rates and their intervals, from finished episodes."""
