"""Reference solution -> multi-turn tool environment, by rewriting its syntax tree.

The modules here are plain standard-library Python without annotations that need a package: `bundle`
ships their sources into the Wasm guest, where all of the corpus' code runs. They import one another only.
"""
