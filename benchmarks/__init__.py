"""Measurements of this project beside its peers; each module prints JSON lines."""
