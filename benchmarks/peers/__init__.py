"""What other projects do in place of our sandbox, written anew and small: each runs where it would run."""
