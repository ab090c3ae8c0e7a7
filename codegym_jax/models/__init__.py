"""The policy as a sharded Flax transformer, and its KV cache. Sees no text and no tool."""
