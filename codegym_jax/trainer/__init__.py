"""Optimizer, train state, update steps and checkpoints. Blind to the algorithm and to the tools."""
