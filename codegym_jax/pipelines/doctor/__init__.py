"""`codegym doctor`: whether a run would work here, before it is started; by one process, or by all of them.

Each check gives findings with the value found and the fix (`finding`), and none of them writes anything that
stays, but the compiled guest in the cache. Takes a config at most; knows no loop.
"""
