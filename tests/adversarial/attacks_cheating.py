"""Attacks on the reward and on the rules of an episode.

An environment's source is adversarial, but verified, and its reward function is its author's: what a tool
does to `self._reward`, or to the guest's own runtime, is the author's reward function, oddly written.

The host guarantees, against every source: an episode ends at the first Done, and pays nothing before its
class says that it is done; the reward is read once, and lies in [0, 1]; no verdict of Done reaches the
transcript; a policy, which sends actions and no code, calls nothing but the tools. Every row is one of these.
"""

from attack import ENDED, OUTSIDE, TOO_LONG, episode, tool, verification
from victim import ACT, ADD, RIGHT, TOTAL, WRONG, call

from codegym_jax.records import CallError

_NOT_JSON = CallError.NOT_JSON
_EXPECTED = 'Error: expected one call, {"name": ..., "parameters": {...}}'
_WIN = "self._done, self._reward = True, 1\n"
_APP = "import app\napp.WitWorld.{} = staticmethod(lambda *_: {})\nreturn 'patched'"

EPISODE = [
    episode(
        "Done after Done",
        "the first one ends the episode; its verdict tells the answer, so nobody may read it and try again",
        [(WRONG, ""), (RIGHT, ENDED), (ADD, ENDED)],
        ended=True,
    ),
    episode(
        "wrong after right",
        "nor does a later one take away",
        [(RIGHT, ""), (WRONG, ENDED)],
        ended=True,
        earned=1.0,
    ),
    episode(
        "Done twice in a message",
        "a message is one call or none; nothing of it is played",
        [(WRONG + RIGHT, (_NOT_JSON, f"{_EXPECTED}, and this goes on after it")), (RIGHT, "")],
        ended=True,
        earned=1.0,
    ),
    episode(
        "Done, failing",
        "ends the episode too: what it raises may tell the answer",
        [(RIGHT, (CallError.TOOL_RAISED, "")), (RIGHT, ENDED)],
        done="raise ValueError(f'the answer is {self.get_ref_answer()}')",
        ended=True,
    ),
    episode(
        "Done, malformed",
        "is no Done, and its text is the host's own",
        [
            (call("Done"), (CallError.BAD_PARAMETERS, "Error: Done lacks the parameter answer")),
            (
                call("Done", answer=1, again=2),
                (CallError.BAD_PARAMETERS, "Error: Done has no parameter again"),
            ),
            (RIGHT, ""),
        ],
        ended=True,
        earned=1.0,
    ),
    episode(
        "Done that the class does not count",
        "it ends the episode, and a class that is not done has earned nothing",
        [(RIGHT, ""), (RIGHT, ENDED)],
        done="self._reward = 1\nreturn 'go on'",
        ended=True,
    ),
    episode(
        "reward without Done",
        "is never read",
        [(ACT, "set"), (TOTAL, "0")],
        act="self._reward = 1\nreturn 'set'",
    ),
    episode(
        "finished without Done",
        "a class may end an episode by any tool; what the tool then says is a verdict",
        [(ACT, ""), (ADD, ENDED)],
        act=f"{_WIN}return f'the answer is {{self.get_ref_answer()}}'",
        ended=True,
        earned=1.0,
    ),
    episode(
        "Done inside a tool",
        "the same: its verdict stays with the host",
        [(ACT, ""), (RIGHT, ENDED)],
        act="return self.step(json.dumps({'name': 'Done', 'parameters': {'answer': 0}}))[1]",
        ended=True,
    ),
    episode(
        "finished, for one reading",
        "the host asks after each call and believes the first yes",
        [(ADD, ""), (ADD, ENDED)],
        finished="self.asked = getattr(self, 'asked', 0) + 1\nreturn self.asked == 1",
        ended=True,
    ),
    episode(
        "finished that raises",
        "is an error of the call, whose observation is lost",
        [(ADD, "Error: ZeroDivisionError: division by zero")],
        finished="return 1 / 0",
    ),
    episode(
        "finished of a strange type",
        "its truth is asked for, within the call",
        [(ADD, "Error: ValueError: neither")],
        module="class X:\n    def __bool__(self): raise ValueError('neither')",
        finished="return X()",
    ),
    episode(
        "calls that are no tools",
        "the published `step` calls any attribute by name; the host lets the tools through only",
        [
            (call(name), (CallError.UNKNOWN_TOOL, f"Error: there is no tool {name}"))
            for name in (
                "get_ref_answer",
                "solve",
                "reset",
                "__init__",
                "__dict__",
                "numbers",
                "Done ",
                "done",
            )
        ],
    ),
    episode(
        "a hidden call by an escape or a repeated key",
        "host and class read the same JSON: names are compared as parsed, the last of two keys counts",
        [
            (
                '{"name": "get\\u005fref_answer", "parameters": {}}',
                (CallError.UNKNOWN_TOOL, "Error: there is no tool get_ref_answer"),
            ),
            ('{"name": "get_ref_answer", "name": "Observe", "parameters": {}}', "2"),
            (
                '{"name": "Observe", "name": "get_ref_answer", "parameters": {}}',
                (CallError.UNKNOWN_TOOL, "Error: there is no tool get_ref_answer"),
            ),
            ('{"name": "Obs\\u0065rve", "parameters": {}}', "2"),
        ],
    ),
    episode(
        "parameters that are no parameters",
        "none but those of the signature go through",
        [
            (call("Act", self=1), (CallError.BAD_PARAMETERS, "Error: Act has no parameter self")),
            (call("Act", __class__=1), (CallError.BAD_PARAMETERS, "Error: Act has no parameter __class__")),
            (
                '{"name": "Act", "parameters": [1]}',
                (CallError.BAD_PARAMETERS, "Error: parameters must be a JSON object"),
            ),
            (
                '{"name": "Act", "parameters": {"value\\u0000": 1}}',
                (CallError.BAD_PARAMETERS, "Error: Act has no parameter value\0"),
            ),
        ],
    ),
    episode(
        "a tool that evaluates what the policy says",
        "such a class gives itself away, but nothing of the host: this is what the sandbox is for",
        [
            (call("Act", value="self.get_ref_answer()"), "12"),
            (call("Act", value="open('/etc/passwd').read()"), OUTSIDE),
            (call("Act", value="[0 for _ in iter(int, 1)]"), TOO_LONG),
            (call("Act", value="__import__('os').environ.copy()"), "{}"),
            (TOTAL, "0"),
        ],
        act="return str(eval(value))",
    ),
]

REWARD = [
    *(
        episode(
            f"reward {code}",
            "whatever the class says, the host keeps a number in [0, 1]",
            [(WRONG, "")],
            reward=f"return {code}",
            ended=True,
            earned=earned,
        )
        for code, earned in [
            ("0.25", 0.25),
            ("True", 1.0),
            ("'1'", 1.0),
            ("-1", 0.0),
            ("1e308 * 10", 1.0),
            ("-1e308 * 10", 0.0),
            ("float('nan')", 0.0),
            ("10**400", 0.0),
            ("'9' * 10**6", 1.0),
            ("'one'", 0.0),
            ("None", 0.0),
            ("1j", 0.0),
            ("[1]", 0.0),
            ("1 / 0", 0.0),
            ("exit()", 0.0),
            ("open('x')", 0.0),
        ]
    ),
    episode(
        "reward with a __float__ of its own",
        "the guest converts it, within the call",
        [(WRONG, "")],
        reward="class X:\n    def __float__(self): return 0.5\nreturn X()",
        ended=True,
        earned=0.5,
    ),
    episode(
        "reward with an endless __float__",
        "the same",
        [(WRONG, "")],
        reward="class X:\n    def __float__(self):\n        while True: pass\nreturn X()",
        ended=True,
    ),
    episode(
        "reward that grows with every reading",
        "it is read once",
        [(WRONG, ""), (ADD, ENDED)],
        reward="self._reward += 0.25\nreturn self._reward",
        ended=True,
        earned=0.25,
    ),
    episode(
        "reward replaced by a tool",
        "still in [0, 1]; a tool is the author's",
        [(ACT, "patched"), (WRONG, "")],
        act="type(self).reward = property(lambda self: 10**9)\nreturn 'patched'",
        ended=True,
        earned=1.0,
    ),
    episode(
        "step and finished replaced by a tool",
        "the host still ends the episode at Done, and still hands no verdict on",
        [(ACT, "patched"), (TOTAL, "mine"), (WRONG, ""), (TOTAL, ENDED)],
        act="type(self).finished = False\nself.step = lambda action: (True, 'mine')\nreturn 'patched'",
        ended=True,
    ),
    episode(
        "state gone",
        "errors, one a call, and an episode that still ends",
        [
            (ACT, "Error: AttributeError: 'VictimEnv' object has no attribute '_done'"),
            (RIGHT, (CallError.TOOL_RAISED, "")),
        ],
        act="self.__dict__.clear()\nreturn 'gone'",
        ended=True,
    ),
]

RESULTS = [
    *(
        tool(f"a tool gives {code}", "everything has a text", f"return {code}", text)
        for code, text in [
            ("5", "5"),
            ("None", "None"),
            ("''", ""),
            ("b'\\xff'", "b'\\xff'"),
            ("(1, 2)", "(1, 2)"),
            ("('a', 'b', 'c')", "('a', 'b', 'c')"),
            ("[float('nan')]", "[nan]"),
        ]
    ),
    *(
        tool(
            f"step gives {code}",
            "a result is a pair, or its text is the observation",
            "",
            text,
            step=f"""
            call = json.loads(action)
            if call["name"] == "Act":
                return {code}
            return True, getattr(self, call["name"])(**call["parameters"])
            """,
        )
        for code, text in [
            ("None", "None"),
            ("'text'", "text"),
            ("('a', 'b', 'c')", "('a', 'b', 'c')"),
            ("[True, 'list']", "[True, 'list']"),
            ("(False, 'pair')", "pair"),
            ("'x' * 9000", "x" * 8192 + "... [cut, 9000 characters in all]"),
        ]
    ),
    tool(
        "a text with methods of its own",
        "its characters count, not its methods",
        """
        class Text(str):
            def __str__(self): return self
            def __len__(self): return -1
            def encode(self, *_): return b"forged"
            def startswith(self, *_): return True
        return Text("plain")
        """,
        "plain",
    ),
    tool(
        "a result whose __str__ raises",
        "an error like others",
        "class X:\n    def __str__(self): raise ValueError('mute')\nreturn X()",
        "Error: ValueError: mute",
    ),
    *(
        tool(f"a tool raises {code}", "nothing gets past the guest's runtime", f"raise {code}", text)
        for code, text in [
            ("ValueError('no')", "Error: no"),
            ("KeyboardInterrupt", "Error: KeyboardInterrupt"),
            ("GeneratorExit('x')", "Error: GeneratorExit: x"),
            ("BaseExceptionGroup('g', [SystemExit()])", "Error: BaseExceptionGroup: g (1 sub-exception)"),
            ("BaseException(chr(0xD800))", "Error: BaseException: \\ud800"),
        ]
    ),
    tool(
        "an exception whose __str__ raises",
        "its type is told",
        "class X(BaseException):\n    def __str__(self): raise KeyboardInterrupt\nraise X",
        "Error: X",
    ),
    tool(
        "an exception whose text has methods of its own",
        "its characters count, not its methods",
        """
        class Text(str):
            def __bool__(self): raise ValueError
            def __format__(self, form): raise ValueError
        class X(BaseException):
            def __str__(self): return Text("plain")
        X.__name__ = Text("X")
        raise X
        """,
        "Error: X: plain",
    ),
    tool(
        "an exception whose class has no name",
        "the name is asked of `type`, not of the class",
        """
        class Meta(type):
            __name__ = property(lambda cls: 1 / 0)
        class X(BaseException, metaclass=Meta): pass
        raise X("text")
        """,
        "Error: X: text",
    ),
]

RUNTIME = [
    episode(
        "json.loads replaced",
        "the host's parser judges the action all the same; what the class then does is its own",
        [
            (ACT, "patched"),
            (ADD, "0"),
            ("no JSON", (_NOT_JSON, _EXPECTED)),
            (call("Nope"), (CallError.UNKNOWN_TOOL, "Error: there is no tool Nope")),
        ],
        act="json.loads = lambda text: {'name': 'Total', 'parameters': {}}\nreturn 'patched'",
    ),
    tool(
        "an unknown status",
        "stands for the worst: the call is undone",
        "import exports\nexports._OK = b'\\xff'\nreturn 'x'",
        OUTSIDE,
    ),
    tool("no status at all", "the same", "import exports\nexports._OK = b''\nreturn ''", OUTSIDE),
    tool(
        "a status that is no byte",
        "an exception in the runtime is a trap",
        "import exports\nexports._trouble = 10**9\nreturn 'x'",
        OUTSIDE,
    ),
    tool(
        "a status from another program",
        "a tool that says that it failed has failed",
        "import exports\nexports._trouble, exports._trouble_text = 2, 'forged'\nreturn 'x'",
        "Error: forged",
    ),
    tool(
        "trouble that nobody notes",
        "the trap of a stub cannot be talked away",
        "import exports\nexports.note_trouble = None\nimport threading\nthreading.Event().wait()",
        OUTSIDE,
    ),
    episode(
        "text that is no UTF-8",
        "it becomes text, visibly",
        [(ACT, "\ufffd\ufffd"), (TOTAL, "\ufffd\ufffd")],
        act="import exports\nexports._encoded = lambda text: b'\\xff\\xfe'\nreturn 'x'",
    ),
    episode(
        "a forged end",
        "is the class's own end: its reward is read, once",
        [(ACT, ""), (RIGHT, ENDED)],
        act="import exports\nexports._OK = b'\\1'\nself._reward = 1\nreturn 'x'",
        ended=True,
        earned=1.0,
    ),
    *(
        episode(
            f"the runtime's reward replaced by {code}",
            "as if the class had said so",
            [(ACT, "patched"), (WRONG, "")],
            act=_APP.format("reward", code),
            ended=True,
            earned=earned,
        )
        for code, earned in [
            ("b'\\0' + b'inf'", 1.0),
            ("b'\\0' + b'nan'", 0.0),
            ("b'\\0' + b'\\xff'", 0.0),
            ("b'\\1' + b'0.5'", 0.5),
            ("b'\\2' + b'1.0'", 0.0),
            ("b''", 0.0),
            ("None", 0.0),
        ]
    ),
    episode(
        "the runtime's step replaced by nothing",
        "a reply that is none is a trap; the state before it stays",
        [(ADD, "5"), (ACT, "patched"), (ADD, OUTSIDE), (ADD, OUTSIDE), (RIGHT, (OUTSIDE, "")), (ADD, ENDED)],
        act=_APP.format("step", "None"),
        ended=True,
        travels=False,
    ),
]

VERIFICATION = [
    verification("no oracle at all", "a reward that nobody earned", "too_few_oracle_calls", solve=_WIN),
    verification(
        "an oracle that goes around the record",
        "the same: what counts is recorded calls",
        "too_few_oracle_calls",
        solve="""
        for name, parameters in [("Add", {"index": 0}), ("Add", {"index": 1}), ("Done", {"answer": 12})]:
            type(self).step(self, json.dumps({"name": name, "parameters": parameters}))
        """,
    ),
    verification(
        "an oracle that wins by a tool that no policy has",
        "its calls are played again, by the host's rules",
        "not_deterministic",
        solve="""
        call("Observe")
        call("Observe")
        call("get_ref_answer")
        return call("Done", answer=12)
        """,
    ),
    verification(
        "an oracle that sets the reward beside its calls",
        "its calls are played again without it",
        "not_deterministic",
        solve='call("Observe")\ncall("Observe")\ncall("Done", answer=0)\nself._reward = 1',
    ),
    verification(
        "an oracle that does not answer",
        "it earns nothing",
        "oracle_fails",
        solve='for _ in range(5): call("Observe")',
    ),
    verification(
        "a reward from outside",
        "a reward that cannot be read is none",
        "oracle_fails",
        reward="return len(open('x').read())",
    ),
    verification("any answer wins", "a wrong one is tried", "any_answer_wins", done=f"{_WIN}return 'yes'"),
    verification(
        "an answer equal to everything",
        "the same",
        "any_answer_wins",
        module="class All(int):\n    def __eq__(self, other): return True",
        answer="return All(12)",
    ),
    verification(
        "an answer that changes the state",
        "asking for it must not help the oracle only",
        "oracle_fails",
        answer="self.numbers.append(1)\nreturn sum(self.numbers)",
    ),
    verification(
        "an answer without JSON",
        "it could not be told",
        "answer_raised",
        answer="return {1, 2}",
        done=f"{_WIN}",
    ),
    verification(
        "an answer in itself",
        "the same",
        "answer_raised",
        answer="x = []\nx.append(x)\nreturn x",
        done=f"{_WIN}",
    ),
    verification(
        "a huge answer", "answers are short", "answer_too_long", answer="return 'x' * 10**5", done=f"{_WIN}"
    ),
    verification(
        "an oracle that acts with a number",
        "an action is text",
        "oracle_raised",
        step="self._done, self._reward = True, 1\nreturn True, 'x'",
        solve="for _ in range(3): self.step(5)",
    ),
    *(
        verification(
            f"an oracle's record forged as {name}",
            "what the guest reports is checked before it is used",
            "oracle_raised",
            solve=f"""
            dumps = json.dumps
            self.step(dumps({{"name": "Done", "parameters": {{"answer": 12}}}}))
            json.dumps = lambda *_, **__: {forged}
            """,
        )
        for name, forged in [
            ("no JSON", "'no JSON'"),
            ("no text", "b'\\xff'"),
            ("JSON too deep for the host", "'[' * 10**6"),
            ("a list", "'[]'"),
            ("nothing", "'{}'"),
            ("numbers", "dumps({'actions': [1, 2, 3], 'observations': ['', '', '']})"),
            ("actions that saw nothing", "dumps({'actions': ['', '', ''], 'observations': []})"),
        ]
    ),
    verification(
        "a reference answer forged as no JSON",
        "the same",
        "answer_raised",
        module="dumps = json.dumps\njson.dumps = lambda x, **kw: '[' if x == 12 else dumps(x, **kw)",
    ),
]

ATTACKS = EPISODE + REWARD + RESULTS + RUNTIME + VERIFICATION
