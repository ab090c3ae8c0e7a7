"""Credit assignment and losses as pure functions of arrays. Sees no model, config or token text."""
