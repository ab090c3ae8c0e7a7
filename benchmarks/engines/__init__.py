"""The policy's engines side by side: each in a process of its own, in its own virtual environment."""
