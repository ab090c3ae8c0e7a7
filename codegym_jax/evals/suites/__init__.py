"""Suites of tests that were made elsewhere: played through one protocol, graded by their own checkers.

`suite.py` is the protocol, `registry.py` lists the suites, `worker.py` speaks with one that runs in a process
and an environment of its own (`environments.py` makes those), `play.py` makes an attempt, `statistics.py` and
`table.py` make figures of many. Nothing here knows what a policy is but `play.Speaker`.
"""
