"""Coding problems to environment sources whose oracle touches nothing but the tools. Sees no policy."""
