"""A task set behind OpenEnv's interface, for its clients and the trainers that use them.

OpenEnv names actions, observations and states, and brings the server: sessions over WebSocket or MCP, each of
them an environment object of its own, and a task provider that lists what may be played. `environment.py` is
that object, `server.py` the server with its limits.

Source: https://github.com/huggingface/OpenEnv, version 0.10 (the package `openenv`; `openenv-core` is what
its versions up to 0.3 were called, without the task provider).
"""
