"""What keeps a verified environment out of a task set: shortcuts, chance, and being a near-duplicate."""
