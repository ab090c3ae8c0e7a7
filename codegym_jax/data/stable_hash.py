"""One hash for every choice that must not depend on input order, process, platform or library version."""

import hashlib


def stable_hash(*parts: str | int) -> int:
    """Maps `parts` to a 64-bit integer, uniformly; the same everywhere and forever.

    Parts are length-prefixed, so `("ab", "c")` and `("a", "bc")` differ; an integer hashes as its
    decimal digits.
    """
    digest = hashlib.sha256()
    for part in parts:
        data = str(part).encode("utf-8", "surrogatepass")
        digest.update(f"{len(data)}:".encode() + data)
    return int.from_bytes(digest.digest()[:8], "big")
