"""Environments, tests and oracles written by a language model, believed only as far as checked."""
