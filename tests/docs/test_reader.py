"""The rules of docs/README.md for tutorials, held to small pages."""

import pytest

from tests.docs.reader import new_reader
from tests.docs.tutorial import BadTutorial, difference, steps

PAGE = """# A page

Save this as `notes/one.txt`:

```text-file notes/one.txt
one
```

```bash
export WHO=reader
cat notes/one.txt
```

which prints

```text
one
```

<!-- not run: needs a cloud -->
```bash
false
```

<!-- slow: a year -->

```bash exit=3
echo "hello, $WHO"; (exit 3)
```

```text
hello, ...
```
"""


def test_a_page_is_read_as_steps():
    file, quick, cloud, slow = steps(PAGE)
    assert (file.file, file.text) == ("notes/one.txt", "one\n")
    assert (quick.line, quick.expected, quick.not_run, quick.slow) == (9, ["one\n"], "", "")
    assert (cloud.not_run, cloud.text) == ("needs a cloud", "false\n")
    assert (slow.slow, slow.exit_code, slow.expected) == ("a year", 3, ["hello, ...\n"])


def test_steps_are_followed_in_one_checkout_and_exports_stay(tmp_path):
    reader = new_reader(tmp_path)
    assert [reader.follow(step) for step in steps(PAGE) if not step.not_run] == ["", "", ""]


def test_what_is_not_as_the_page_says_is_told(tmp_path):
    reader = new_reader(tmp_path)
    [wrong] = steps("```bash\necho one; echo two\n```\n```text\none\n```\n")
    assert "this was printed\n  two" in reader.follow(wrong)
    [failing] = steps("```bash\nfalse\necho never\n```\n")
    assert reader.follow(failing).startswith("exit code 1, not 0")


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("```text\nalone\n```\n", "output, but of no command"),
        ("```bash twice\ntrue\n```\n", "unknown words after bash: twice"),
        ("Save this:\n\n```python a.py\n```\n", "do not say that it is `a.py`"),
        ("Save `../a.py`:\n\n```python ../a.py\n```\n", "lies outside the checkout"),
    ],
)
def test_a_page_against_the_rules_is_refused(page, expected):
    with pytest.raises(BadTutorial, match=expected):
        steps(page)


@pytest.mark.parametrize(
    ("expected", "printed", "alike"),
    [
        ("a\nb", "a\nb\n", True),
        ("a  b", "a b", True),
        ("a", "a\nb", False),
        ("a\nb", "a", False),
        ("a\n...", "a\nb\nc", True),
        ("a\n...", "a", True),
        ("...\nc", "a\nb\nc", True),
        ("...\nb\n...\nb", "b", False),
        ("...\nb\nc", "b\nb\nc", True),
        ("took ...s, (done)", "took 0.3s, (done)", True),
        ("took ...s, (done)", "took 0.3m, (done)", False),
        ("a.c", "abc", False),
    ],
)
def test_only_dots_stand_for_something_else(expected, printed, alike):
    assert (difference(expected, printed) == "") == alike
