"""Looks at runs while they go on, from their files alone: facts, an index, a page, a terminal."""
