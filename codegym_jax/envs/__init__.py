"""Environments in the published CodeGym format, run in WebAssembly: sandbox, guest, episode, checks."""
