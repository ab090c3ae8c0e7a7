"""How text is compared in a search: without case, and as SQLite can hold it."""

import re

_UNFIT = re.compile("[\0\ud800-\udfff]")


def storable(text: str) -> str:
    """The text with U+FFFD for NUL and for lone surrogates, which are no characters: SQLite holds neither."""
    return _UNFIT.sub("\ufffd", text)


def folded(text: str) -> str:
    """The text without differences of case."""
    return storable(text.casefold())


def trigram_query(needle: str) -> str:
    """What FTS5 finds in all texts that contain `needle`, folded; "" where that is too short to say."""
    parts = dict.fromkeys(needle[at : at + 3] for at in range(len(needle) - 2))
    return " AND ".join('"' + part.replace('"', '""') + '"' for part in parts)
