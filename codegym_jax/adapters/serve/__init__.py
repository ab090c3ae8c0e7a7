"""A policy behind OpenAI's chat interface, for `codegym serve`. It answers; it never executes a tool."""
