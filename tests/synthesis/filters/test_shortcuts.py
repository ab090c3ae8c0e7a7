"""Environments that give the answer or the hidden data away are refused, and sound ones are not."""

import dataclasses

import pytest
from made import LENGTH_AND_ITEM, environment, lists, verified

from codegym_jax.synthesis.filters.reveals import altered
from codegym_jax.synthesis.filters.shortcuts import fewest_calls, shortcut

SUM_TOOLS = (
    LENGTH_AND_ITEM
    + """
def Add(self, total, x):
    return json.dumps(total + x)
"""
)
SUM_SOLVE = """
total = 0
for index in range(call("GetLength")):
    total = call("Add", total=total, x=call("GetItem", index=index))
return call("Done", answer=total)
"""
SUM = {"tools": SUM_TOOLS, "answer": "return sum(self.inputs['xs'])", "solve": SUM_SOLVE}


def refusal(sandbox, spec, configs=None):
    found = shortcut(sandbox, spec, verified(sandbox, spec, configs or lists()))
    return found and found.reason


def test_a_sum_by_steps_is_sound(sandbox):
    assert refusal(sandbox, environment(**SUM)) is None


@pytest.mark.parametrize(
    ("observe", "expected"),
    [
        ("json.dumps({'hidden': ['xs'], 'length': len(self.inputs['xs'])})", None),
        ("f'There are {len(self.inputs[\"xs\"])} numbers.'", None),
        ("'Nothing is known yet.'", None),
        ("json.dumps({'hidden': ['xs'], 'first': self.inputs['xs'][0]})", "observe_reveals_hidden"),
        ("json.dumps({'hidden': ['xs'], 'xs': self.inputs['xs']})", "observe_reveals_hidden"),
        ("json.dumps({'xs': self.inputs['xs'][:2]})", "observe_reveals_hidden"),
        ("json.dumps(self.inputs)", "nothing_hidden"),
        ("'The numbers are ' + ' '.join(map(str, self.inputs['xs']))", "observe_reveals_hidden"),
        ("f'The largest is {max(self.inputs[\"xs\"])}.'", "observe_reveals_hidden"),
    ],
)
def test_observe_may_tell_sizes_but_no_hidden_values(sandbox, observe, expected):
    assert refusal(sandbox, environment(**SUM, observe=observe)) == expected


def test_a_hidden_digit_is_found_by_changing_it(sandbox):
    """`k` has one digit, so that finding it in a text proves nothing; `Observe` says whether it is odd."""
    tools = SUM_TOOLS + "def GetK(self):\n    return json.dumps(self.inputs['k'])\n"
    solve = SUM_SOLVE.replace("total = 0", "total = call('GetK')")
    parts = {"tools": tools, "solve": solve, "answer": "return sum(self.inputs['xs'], self.inputs['k'])"}
    configs = [config | {"k": number % 7} for number, config in enumerate(lists())]
    hiding = "json.dumps({'hidden': ['xs', 'k'], 'length': 5})"
    assert refusal(sandbox, environment(**parts, observe=hiding), configs) is None
    telling = "json.dumps({'hidden': ['xs', 'k'], 'odd': self.inputs['k'] % 2})"
    assert refusal(sandbox, environment(**parts, observe=telling), configs) == "observe_reveals_hidden"
    visible = "json.dumps({'k': self.inputs['k'], 'hidden': ['xs']})"
    assert refusal(sandbox, environment(**parts, observe=visible), configs) is None


def test_a_visible_value_that_is_the_answer_is_a_shortcut(sandbox):
    spec = environment(**SUM, observe="json.dumps({'hidden': ['xs'], 'goal': self.inputs['goal']})")
    configs = [config | {"goal": sum(config["xs"])} for config in lists()]
    assert refusal(sandbox, spec, configs) == "single_call_answers"
    other = [config | {"goal": sum(config["xs"]) + 1} for config in lists()]
    assert refusal(sandbox, spec, other) is None


def test_a_tool_that_works_everything_out_is_a_shortcut_though_the_oracle_never_calls_it(sandbox):
    tools = SUM_TOOLS + "def Total(self):\n    return json.dumps([sum(self.inputs['xs'])])\n"
    assert refusal(sandbox, environment(**SUM | {"tools": tools})) == "single_call_answers"


def test_a_plain_text_that_names_the_answer_is_a_shortcut(sandbox):
    tools = SUM_TOOLS + "def Total(self):\n    return f'The sum is {sum(self.inputs[\"xs\"])}.'\n"
    assert refusal(sandbox, environment(**SUM | {"tools": tools})) == "single_call_answers"


def test_a_first_element_that_is_the_answer_is_a_shortcut(sandbox):
    spec = environment(**SUM)
    lonely = [{"xs": [one["xs"][0]]} for one in lists(8)] + lists(12)[8:]
    assert refusal(sandbox, spec, lonely) == "single_call_answers"


def test_one_call_on_everything_that_was_read_is_a_shortcut(sandbox):
    """All numbers are read one by one, and then one tool adds them up."""
    tools = LENGTH_AND_ITEM + "def Sum(self, numbers):\n    return json.dumps(sum(numbers))\n"
    solve = """
    numbers = [call("GetItem", index=index) for index in range(call("GetLength"))]
    return call("Done", answer=call("Sum", numbers=numbers))
    """
    spec = environment(tools=tools, solve=solve, answer=SUM["answer"])
    assert refusal(sandbox, spec) == "single_call_answers"


def test_a_last_call_on_what_repeated_calls_worked_out_is_none(sandbox):
    """The same tool at the end, but on squares that another tool worked out."""
    tools = (
        LENGTH_AND_ITEM
        + "def Sum(self, numbers):\n    return json.dumps(sum(numbers))\n"
        + "def Square(self, x):\n    return json.dumps(x * x)\n"
    )
    solve = """
    squares = [call("Square", x=call("GetItem", index=index)) for index in range(call("GetLength"))]
    return call("Done", answer=call("Sum", numbers=squares))
    """
    answer = "return sum(x * x for x in self.inputs['xs'])"
    assert refusal(sandbox, environment(tools=tools, solve=solve, answer=answer)) is None


def test_reading_what_repeated_calls_changed_is_none(sandbox):
    """A counter that is read once at the end; read first, it says 0."""
    tools = (
        LENGTH_AND_ITEM
        + "def Put(self, x):\n    self.total += x\n    return 'ok'\n"
        + "def Total(self):\n    return json.dumps(self.total)\n"
    )
    solve = """
    for index in range(call("GetLength")):
        call("Put", x=call("GetItem", index=index))
    return call("Done", answer=call("Total"))
    """
    spec = environment(tools=tools, solve=solve, answer=SUM["answer"], reset="self.total = 0")
    assert refusal(sandbox, spec) is None


def test_booleans_that_agree_by_chance_are_no_shortcut(sandbox):
    """Is the sum even? `IsEven(0)` is true in all tasks, as is the answer in most; `Total` says it in all."""
    tools = SUM_TOOLS + "def IsEven(self, x):\n    return json.dumps(x % 2 == 0)\n"
    solve = SUM_SOLVE.replace("answer=total", "answer=call('IsEven', x=total)")
    parts = {"solve": solve, "answer": "return sum(self.inputs['xs']) % 2 == 0"}
    configs = [{"xs": [n, n + 1, 7 if n % 4 else 6]} for n in range(10, 22)]
    spec = environment(tools=tools, **parts)
    answers = [task.answer_json for task in verified(sandbox, spec, configs)]
    assert (answers.count("true"), answers.count("false")) == (9, 3)
    assert refusal(sandbox, spec, configs) is None
    telling = tools + "def Total(self):\n    return json.dumps(sum(self.inputs['xs']) % 2 == 0)\n"
    assert refusal(sandbox, environment(tools=telling, **parts), configs) == "single_call_answers"


def test_answers_that_hardly_vary_are_refused(sandbox):
    spec = environment(**SUM)
    same = [{"xs": [n, 100 - n]} for n in range(10)]
    assert refusal(sandbox, spec, same) == "constant_answers"
    assert refusal(sandbox, spec, same[:9] + lists(1)) == "constant_answers"
    assert refusal(sandbox, spec, same[:8] + lists(2)) is None


def test_the_kinds_that_the_outliner_names_are_believed(sandbox):
    """`Keep` reads no attribute, but is said to read the input; then what it returned is not worked out."""
    tools = (
        SUM_TOOLS
        + "def Keep(self, x):\n    return json.dumps(x)\ndef Last(self, x):\n    return json.dumps(x)\n"
    )
    solve = """
    for index in range(call("GetLength")):
        x = call("Keep", x=call("GetItem", index=index))
    return call("Done", answer=call("Last", x=x))
    """
    spec = environment(tools=tools, solve=solve, answer="return self.inputs['xs'][-1]")
    tasks = verified(sandbox, spec, lists())
    assert shortcut(sandbox, spec, tasks) is None
    kinds = {"GetLength": "access", "GetItem": "access", "Keep": "access", "Last": "operation"}
    found = shortcut(sandbox, spec, tasks, kinds)
    assert found is not None and found.reason == "single_call_answers"
    assert found.subject == spec.env_id


def test_the_fewest_calls_end_where_the_answer_is_first_seen(sandbox):
    """Length, then item and sum for each of three numbers, then `Done`: the sum is seen at call 7 of 8."""
    spec = environment(**SUM)
    [task] = verified(sandbox, spec, [{"xs": [10, 20, 40]}])
    assert (len(task.oracle_actions), fewest_calls([task])) == (8, 8.0)
    [early] = verified(sandbox, spec, [{"xs": [40, 0, 0]}])
    assert fewest_calls([early]) == 3.0  # length, item 40, `Done`
    assert fewest_calls([task, early]) == 5.5
    truth = dataclasses.replace(task, answer_json="true")
    assert fewest_calls([truth]) == 8.0


def test_altering_keeps_the_shape():
    value = {"a": [1, 2.5, "Az9-", None, True], "b": []}
    assert altered(value) == {"a": [2, pytest.approx(3.5), "Ba0-", None, False], "b": []}
