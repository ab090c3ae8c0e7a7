"""Attacks on the walls: whatever reaches for the host ends in a Python exception or a trap, and gets nothing.

The guest imports nothing, so there is nothing to reach. What is held here is that every attempt is one clear
outcome, and that nothing of the host shows in it.
"""

from attack import OUTSIDE, TRAPS, loading, tool

_FILE_CLASS = "import _io\nf = next(c for c in _io._RawIOBase.__subclasses__() if c.__name__ == 'FileIO')\n"
_BUILTIN = """
import _imp, importlib._bootstrap
module = _imp.create_builtin(importlib._bootstrap.ModuleSpec("{}", None))
_imp.exec_builtin(module)
"""
_NO_FILES = "Error: there are no files in the sandbox"


def _missing(module):
    return f"Error: No module named '{module}' in the sandbox"


FILES = [
    tool("open", "the builtin is a refusal", "return open('/etc/passwd').read()", OUTSIDE),
    tool("open of a descriptor", "the same", "return open(0).read()", OUTSIDE),
    tool(
        "open, its exception swallowed",
        "a reach is remembered for the rest of the call",
        "try: open('x')\nexcept BaseException: pass\nreturn 'swallowed'",
        OUTSIDE,
    ),
    tool("io.open_code", "the same", "import io\nreturn io.open_code('/etc/passwd').read()", OUTSIDE),
    tool("io.FileIO", "the same", "import io\nreturn io.FileIO('/etc/passwd').read()", OUTSIDE),
    tool(
        "the class behind io.FileIO",
        "an audit hook stops it",
        f"{_FILE_CLASS}return f('/etc/passwd')",
        _NO_FILES,
    ),
    tool("standard input by descriptor", "the same", f"{_FILE_CLASS}return f(0).read()", _NO_FILES),
    tool(
        "standard output by descriptor", "the same", f"{_FILE_CLASS}return f(1, 'w').write(b'x')", _NO_FILES
    ),
    tool("standard input", "it is empty", "import sys\nreturn repr(sys.stdin.read())", "''"),
    tool("input()", "the builtin is a refusal", "return input()", OUTSIDE),
    tool("os.listdir", "all of posix refuses", "import os\nreturn str(os.listdir('/'))", OUTSIDE),
    tool("os.path.exists", "the same", "import os\nreturn str(os.path.exists('/etc/passwd'))", OUTSIDE),
    tool("os.getcwd", "the same", "import os\nreturn os.getcwd()", OUTSIDE),
    tool("os.write", "the same", "import os\nreturn str(os.write(1, b'x'))", OUTSIDE),
    tool("os.environ", "it is empty", "import os\nreturn str(dict(os.environ))", "{}"),
    tool("os.getpid", "not even a number is given", "import os\nreturn str(os.getpid())", OUTSIDE),
    tool("os.uname", "the same", "import os\nreturn str(os.uname())", OUTSIDE),
    tool("os.cpu_count", "the same", "import os\nreturn str(os.cpu_count())", OUTSIDE),
    tool(
        "linecache",
        "a traceback asks it for source lines: it has none, and that is nobody's fault",
        "import linecache\nreturn str(linecache.getlines('/etc/passwd'))",
        "[]",
    ),
    tool(
        "a log file",
        "logging opens files as everybody does",
        "import logging\nlogging.basicConfig(filename='/tmp/x')",
        OUTSIDE,
    ),
    tool(
        "paths of the interpreter",
        "the guest was built elsewhere, and says only that it is Python for WASI",
        "import sys\nreturn str([sys.executable, sys.argv, sys.path, sys.prefix, sys.platform])",
        "['', [], [], '/python', 'wasi']",
    ),
    tool(
        "the files of the frames above",
        "the runtime's own paths in the guest's image",
        """
        import sys
        frame, names = sys._getframe(), []
        while frame:
            names.append(frame.f_code.co_filename)
            frame = frame.f_back
        return str(sorted(set(names)))
        """,
        "['/0/exports.py', '<program>']",
    ),
]

PROCESSES = [
    tool(
        "os.system",
        "WASI has no such thing",
        "import os\nos.system('id')",
        "Error: module 'os' has no attribute 'system'",
    ),
    tool("os.fork", "the same", "import os\nos.fork()", "Error: module 'os' has no attribute 'fork'"),
    tool("os.kill", "the same", "import os\nos.kill(1, 9)", "Error: module 'os' has no attribute 'kill'"),
    tool("os._exit", "a refusal", "import os\nos._exit(0)", OUTSIDE),
    tool("os.abort", "a refusal", "import os\nos.abort()", OUTSIDE),
    tool("sys.exit", "an exception like others", "import sys\nsys.exit(3)", "Error: SystemExit: 3"),
    tool("exit()", "the same", "exit()", "Error: SystemExit: None"),
    tool("_thread.exit", "the same", "import _thread\n_thread.exit()", "Error: SystemExit"),
    tool(
        "a signal to itself",
        "nobody listens",
        "import _thread\n_thread.interrupt_main()\nreturn str(sum(range(1000)))",
        "499500",
    ),
    tool("a crash by faulthandler", "a trap", _BUILTIN.format("faulthandler") + "module._sigsegv()", OUTSIDE),
    tool("breakpoint()", "there is no debugger to enter", "return str(breakpoint())", "None"),
    tool("atexit", "nothing runs at the end", "import atexit\natexit.register(print)\nreturn 'set'", "set"),
    tool("code for another process", "a trap", "import sys\nsys.remote_exec(1, 'x.py')", OUTSIDE),
]

THREADS = [
    tool(
        "a thread",
        "starting one is refused",
        "import threading\nthreading.Thread(target=print).start()",
        OUTSIDE,
    ),
    tool("a timer", "the same", "import threading\nthreading.Timer(1, print).start()", OUTSIDE),
    tool(
        "a raw thread",
        "there is none",
        "import _thread\n_thread.start_new(print, ())",
        "Error: can't start new thread",
    ),
    tool(
        "a lock taken twice",
        "waiting where nobody can come is a trap, not a hang",
        "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()",
        OUTSIDE,
    ),
    tool("an event", "the same", "import threading\nthreading.Event().wait()", OUTSIDE),
    tool("an event with a timeout", "the same", "import threading\nthreading.Event().wait(1)", OUTSIDE),
    tool("an empty queue", "the same", "import queue\nqueue.Queue().get()", OUTSIDE),
]

IMPORTS = [
    *(
        tool(f"import {module}", "known to talk to the outside", f"import {module}", OUTSIDE)
        for module in ("socket", "subprocess", "ctypes", "signal", "asyncio", "multiprocessing")
    ),
    *(
        tool(f"import {module}", "not preloaded, so it does not exist", f"import {module}", _missing(module))
        for module in ("numpy", "_socket", "_signal", "pdb", "platform")
    ),
    loading(
        "import socket at the top", "such an environment does not load", "forbidden", module="import socket"
    ),
    loading(
        "import numpy at the top", "such an environment does not load", "does_not_load", module="import numpy"
    ),
    tool("importlib", "the same finder", "import importlib\nimportlib.import_module('socket')", OUTSIDE),
    tool(
        "importlib.reload",
        "a module's source is not there to run again",
        "import importlib, os\nimportlib.reload(os)",
        _missing("os"),
    ),
    tool(
        "no import finder",
        "without one, nothing is found",
        "import sys\nsys.meta_path.clear()\nsys.path.append('/')\nimport socket",
        "Error: No module named 'socket'",
    ),
    tool(
        "a fresh posix, with nothing patched",
        "its functions end in stubs that trap",
        _BUILTIN.format("posix") + "return str(module.listdir('/'))",
        OUTSIDE,
    ),
    tool(
        "a fresh time, with nothing patched",
        "the same",
        _BUILTIN.format("time") + "return str(module.time())",
        OUTSIDE,
    ),
    tool(
        "a fresh _io",
        "the audit hook stays",
        _BUILTIN.format("_io") + "return module.open('x').read()",
        _NO_FILES,
    ),
    tool(
        "no modules",
        "what is imported stays imported",
        "import sys\nsys.modules.clear()\nreturn 'gone'",
        "gone",
    ),
]

INTERPRETER = [
    tool(
        "bytecode of zeros",
        "unchecked by CPython: what it breaks is the guest's own, and ends in a trap",
        "f = lambda: 0\nf.__code__ = f.__code__.replace(co_code=bytes(100))\nreturn str(f())",
        OUTSIDE,
    ),
    tool(
        "bytecode that loads what is not there",
        "the same",
        "f = lambda: 0\nf.__code__ = f.__code__.replace(co_code=b'd\\xff' * 50)\nreturn str(f())",
        OUTSIDE,
    ),
    tool(
        "marshal data of rubbish",
        "checked",
        "import marshal\nmarshal.loads(bytes(range(128, 256)))",
        "Error: bad marshal data (unknown type code)",
    ),
    tool(
        "no builtins",
        "the runtime cannot go on: a trap",
        "import builtins\nbuiltins.__dict__.clear()",
        OUTSIDE,
    ),
    tool(
        "every dict that can be found, emptied",
        "what the interpreter then does ends in a trap; in which, depends on the build",
        "import gc\nfor x in gc.get_objects():\n    if type(x) is dict: x.clear()",
        TRAPS,
    ),
    tool(
        "a hook on every audited event",
        "it hears no secret, and one that raises breaks only its own guest",
        "import sys\nsys.addaudithook(lambda *_: None)\nreturn 'hooked'",
        "hooked",
    ),
    tool(
        "collector frozen and switched off",
        "a guest lives for one episode",
        "import gc\ngc.freeze()\ngc.disable()\nreturn 'off'",
        "off",
    ),
    tool(
        "the watch for MemoryErrors, removed",
        "the watch is for the program's own good: it then goes on in the state that it chose",
        """
        import sys
        sys.monitoring.free_tool_id(sys.monitoring.OPTIMIZER_ID)
        try: bytearray(1 << 30)
        except MemoryError: return "on"
        """,
        "on",
    ),
    tool(
        "no standard output",
        "printing needs none",
        "import sys\nsys.stdout = None\nprint('x')\nreturn 'on'",
        "on",
    ),
]

ATTACKS = FILES + PROCESSES + THREADS + IMPORTS + INTERPRETER
