"""Laws of sharing: what a plan copies is there to be copied, is what the prompt says, and is all there is."""

from hypothesis import given, settings
from hypothesis import strategies as st

from codegym_jax.rollout.prefix import PrefixTree, Start

WIDTH = 4
A, B = list(range(1, 9)), list(range(11, 19))
"""Two chunks each."""


def plan(tree, **prompts):
    """Slots as keywords: `s3=[...]`."""
    starts = tree.plan({int(name[1:]): ids for name, ids in prompts.items()})
    return {f"s{slot}": tuple(start) for slot, start in starts.items()}


def test_whole_chunks_are_shared_and_the_last_short_one_only_by_prompts_that_end_with_it():
    tree = PrefixTree(WIDTH)
    assert plan(tree, s0=[*A, 9, 10]) == {"s0": (None, 0, 0)}
    assert plan(tree, s1=[*A, 9, 10]) == {"s1": (0, 10, 0)}
    assert plan(tree, s2=[*A, 9]) == {"s2": (0, 8, 0)}
    assert plan(tree, s3=[*A, 9, 10, 11]) == {"s3": (0, 8, 0)}
    assert plan(tree, s4=A[:6]) == {"s4": (0, 4, 0)}
    assert plan(tree, s5=B) == {"s5": (None, 0, 0)}


def test_prompts_of_one_call_wait_for_the_first_of_them():
    starts = plan(PrefixTree(WIDTH), s5=[*A, 9], s1=[*B, 9], s0=[*A, 9], s2=[*A, 9], s3=[*A, *B], s4=[*A, *B])
    assert starts == {
        "s5": (None, 0, 0),
        "s1": (None, 0, 0),
        "s0": (5, 9, 1),
        "s2": (5, 9, 1),
        "s3": (5, 8, 1),
        "s4": (3, 16, 2),
    }


def test_a_slot_keeps_what_its_next_prompt_begins_with_and_loses_the_rest():
    tree = PrefixTree(WIDTH)
    plan(tree, s0=[*A, *B])
    assert plan(tree, s0=[*A, 7]) == {"s0": (None, 8, 0)}
    assert plan(tree, s1=[*A, *B]) == {"s1": (0, 8, 0)}
    assert plan(tree, s0=B) == {"s0": (None, 0, 0)}
    assert plan(tree, s2=A) == {"s2": (1, 8, 0)}
    tree.clear()
    assert plan(tree, s0=A) == {"s0": (None, 0, 0)}


def test_a_prompt_goes_where_its_beginning_ends_and_else_to_the_slot_that_was_free_first():
    tree = PrefixTree(WIDTH)
    plan(tree, s0=[*A, *B], s1=[*A, 9], s2=[*A, *B, 7], s3=[1, 2])
    assert tree.continued([*A, *B, 30], [3, 0, 1]) == 0, "it keeps most, and all of it"
    assert tree.continued([*A, 9, 9], [3, 0, 1]) == 1, "slot 0 would lose a chunk that another may go on with"
    assert tree.continued([*A, 9, 9], [3, 2, 0]) == 3
    assert tree.continued(B, [2, 1]) == 2
    assert tree.continued(B, [5, 1]) == 5


PROMPT = st.lists(st.integers(0, 1), min_size=1, max_size=11)


@given(st.lists(st.dictionaries(st.integers(0, 3), PROMPT, min_size=1), max_size=8))
@settings(max_examples=200)
def test_copying_as_planned_gives_every_prompt_and_computes_no_chunk_twice(calls):
    tree, held = PrefixTree(WIDTH), {}
    for prompts in calls:
        starts = tree.plan(prompts)
        donors = {slot: ids for slot, ids in held.items() if slot not in prompts}
        kept = {slot: common(held.get(slot, []), ids) for slot, ids in prompts.items()}
        for slot in starts:  # in the order of the plan; the most that could be shared, by trying all
            ids = prompts[slot]
            assert starts[slot].shared == max([kept[slot], *(common(ids_, ids) for ids_ in donors.values())])
            donors[slot] = ids
        for wave in range(1 + max(start.wave for start in starts.values())):
            of_wave = {slot: start for slot, start in starts.items() if start.wave == wave}
            before = dict(held)
            for slot, start in of_wave.items():
                held[slot] = before[source_of(slot, start)][: start.shared] if start.shared else []
            for slot in of_wave:
                assert held[slot] == prompts[slot][: len(held[slot])]
                held[slot] = prompts[slot]
        assert {slot: held[slot] for slot in prompts} == prompts


def source_of(slot: int, start: Start) -> int:
    return slot if start.source is None else start.source


def common(held, wanted):
    """Tokens of the equal leading chunks."""
    count = 0
    while count < len(wanted) and held[count : count + WIDTH] == wanted[count : count + WIDTH]:
        count = min(count + WIDTH, len(wanted))
    return count
