"""Fills the free places between the image's objects, so that a program's own objects lie together.

Guests share the image's pages until they write to them, and the first write to a page costs a fault and a
copy. Imports leave thousands of small free places all over the heap; an allocator that hands those out
first makes a program's few hundred kilobytes touch most pages of the heap.
"""

_HEADER_BYTES = 21  # of a bytes object (17) and of the block that malloc hands out for it (4)
_BLOCKS = (*(1 << power for power in range(17, 10, -1)), *range(1024, 0, -16))  # every small size of malloc
_SMALLEST = 16
_LARGER_THAN_ANY_HOLE = 1 << 20
_MAX_FILLERS = 20_000


def fill():
    """Allocates until nothing is left but the heap's end; returns what must stay allocated."""
    fillers = [None] * _MAX_FILLERS
    count = 0
    end = id(bytes(_LARGER_THAN_ANY_HOLE))
    for block in _BLOCKS:
        while True:
            filler = object() if block == _SMALLEST else bytes(block - _HEADER_BYTES)
            inside = id(filler) < end
            if inside:
                fillers[count] = filler
                count += 1
            # Freed before the next is allocated: behind that one it would leave a hole.
            del filler
            if not inside:
                break
    del fillers[count:]
    return fillers
