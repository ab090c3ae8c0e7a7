"""Hypothesis strategies that several folders of tests share."""

from hypothesis import strategies as st


def _as_json_holds_it(text: str) -> str:
    """The text with each pair of surrogates joined to the character that it spells: JSON has no pairs."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


JSON_TEXT = st.text(alphabet=st.characters(codec=None)).map(_as_json_holds_it)
"""Any text that comes back from JSON as it was; lone surrogates are among it."""

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | JSON_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(JSON_TEXT, inner, max_size=4),
    max_leaves=12,
)
"""Any value that comes back from JSON as it was."""
