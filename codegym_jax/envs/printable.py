"""What an environment says, for a terminal."""


def printable(text: str) -> str:
    """A text as it is, but for characters that would steer a terminal: those are spelled out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
