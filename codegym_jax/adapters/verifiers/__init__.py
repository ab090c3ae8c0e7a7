"""A task set as a taskset of verifiers (v1 of its interface), which `vf-eval`, prime-rl and others run.

Imports the package verifiers, so only what it starts imports this; `codegym_verifiers.py` is the module that
it looks for by name.
"""
