"""Turns coding problems into verified tool-use environments in WebAssembly, and trains agents on them."""

__version__ = "0.0.1"
