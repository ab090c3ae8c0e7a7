"""A checkpoint comes back byte for byte, anywhere; a broken one does not come back at all."""

import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from codegym_jax.algorithms.log_probs import Scores
from codegym_jax.rollout.packing import Lesson, pack_in_order
from codegym_jax.trainer.checkpoint import Checkpointer, CheckpointMismatch
from codegym_jax.trainer.optimizer import make_optimizer
from codegym_jax.trainer.state import TrainState, init_state, params_hash
from codegym_jax.trainer.update import make_sft_update

EXTRA = {"config": "9a3f", "data": {"next_index": 5, "of": [1, 2]}, "stage": "sft", "none": None, "x": 0.25}
OPTIMIZER = make_optimizer(
    "adamw", 0.05, warmup_steps=3, weight_decay=0.1, b1=0.9, b2=0.95, max_grad_norm=1.0
)


def score(params, frozen, tokens_BT, segment_BT):
    """A policy that knows how frequent each token is, and nothing else."""
    del frozen, segment_BT
    logp_BT = jax.nn.log_softmax(params["layer"]["w"].sum(axis=0))[tokens_BT]
    return Scores(logp_BT, jnp.zeros_like(logp_BT))


def random_update(rng):
    """Four lessons of five tokens, two batches."""
    nothing, all_of_it = np.zeros(5, np.float32), np.ones(5, bool)
    some = [Lesson(rng.integers(0, 16, 5, dtype=np.int32), all_of_it, None, nothing) for _ in range(4)]
    return pack_in_order(some, rows_per_batch=2, row_tokens=5)[0]


def state_of(seed):
    w = jax.random.normal(jax.random.key(seed), (8, 16))
    return init_state({"layer": {"w": w, "scale": jnp.float32(seed) + jnp.ones(16)}}, OPTIMIZER)


def save(folder, step, state, extra):
    """Saves, and waits until it is there."""
    with Checkpointer(folder) as checkpointer:
        return checkpointer.save(step, state, extra)


def assert_same_bytes(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)
    assert params_hash(actual) == params_hash(expected)


def restored_seed(checkpointer):
    """Which of `state_of` the folder holds, as its extra says; checked against the state itself."""
    found = checkpointer.restore(state_of(0))
    if found is None:
        return None
    state, extra = found
    assert_same_bytes(state, state_of(extra["seed"]))
    return extra["seed"]


@pytest.fixture
def three_saved(tmp_path):
    """A folder in which seeds 1, 2 and 3 were saved in turn, at steps 10, 20 and 30."""
    folder = tmp_path / "checkpoints"
    for seed in (1, 2, 3):
        save(folder, 10 * seed, state_of(seed), {"seed": seed})
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_everything_comes_back(tmp_path):
    save(tmp_path, 7, state_of(4), EXTRA)
    state, extra = Checkpointer(tmp_path).restore(state_of(0)) or pytest.fail("nothing there")
    assert isinstance(state, TrainState)
    assert_same_bytes(state, state_of(4))
    assert extra == EXTRA


def test_a_folder_without_checkpoints_has_none(tmp_path):
    checkpointer = Checkpointer(tmp_path / "never made")
    assert checkpointer.latest() is None
    assert checkpointer.restore(state_of(0)) is None
    assert not checkpointer.folder.exists()


def test_the_newest_two_are_kept(three_saved):
    assert names(three_saved) == ["0002_step_00000020", "0003_step_00000030"]
    assert Checkpointer(three_saved).latest() == three_saved / "0003_step_00000030"
    assert restored_seed(Checkpointer(three_saved)) == 3


def test_resuming_equals_never_having_stopped(tmp_path):
    """Six updates, and the same six with a restart after the third: the same bytes."""
    learn = make_sft_update(score, OPTIMIZER)
    rng = np.random.default_rng(0)
    updates = [random_update(rng) for _ in range(6)]
    state = state_of(0)
    for count, update in enumerate(updates):
        if count == 3:
            save(tmp_path, count, state, {})
        state, _ = learn(state, (), update)
    resumed, _ = Checkpointer(tmp_path).restore(state_of(1)) or pytest.fail("nothing there")
    for update in updates[int(resumed.step) :]:
        resumed, _ = learn(resumed, (), update)
    assert_same_bytes(resumed, state)


def test_what_is_saved_is_the_state_of_that_moment(tmp_path):
    """Training goes on in the same buffers while the checkpoint is written; it never shows there."""
    learn = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf + 1, state), donate_argnums=0)
    state = {f"w{index}": jnp.full((500, 1000), float(index)) for index in range(8)}
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
    with Checkpointer(tmp_path) as checkpointer:
        for step in (0, 20, 40):
            checkpointer.save(step, state, {"step": step})
            for _ in range(20):
                state = learn(state)
            saved, extra = checkpointer.restore(with_places(like)) or pytest.fail("nothing there")
            assert extra == {"step": step}
            for index in range(8):
                np.testing.assert_array_equal(saved[f"w{index}"], np.full((500, 1000), index + step))


def with_places(like):
    """On the first device."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0])
        ),
        like,
    )


def test_a_checkpoint_is_there_only_when_what_it_needs_is(tmp_path):
    """What comes before the commit has come when the checkpoint can be seen; where it fails, none is."""
    seen = []
    with Checkpointer(
        tmp_path, before_commit=lambda: seen.append(names(tmp_path / "0001_step_00000001"))
    ) as c:
        c.save(1, state_of(1), {"seed": 1})
    [files] = seen
    assert "manifest.json" not in files and "state" in files
    assert restored_seed(Checkpointer(tmp_path)) == 1

    def refuse():
        raise OSError("no room")

    failing = Checkpointer(tmp_path, before_commit=refuse)
    failing.save(2, state_of(2), {"seed": 2})
    with pytest.raises(OSError, match="no room"):
        failing.wait()
    assert restored_seed(failing) == 1
    save(tmp_path, 2, state_of(2), {"seed": 2})
    assert names(tmp_path) == ["0001_step_00000001", "0003_step_00000002"]


def test_the_steps_that_are_kept_for_good(tmp_path):
    """The newest two, and each second step but step 0; of a step that was saved twice, the newer one."""
    with Checkpointer(tmp_path, keep=2, keep_every=20) as checkpointer:
        for step in (0, 10, 20, 30, 20, 30, 40, 50, 60, 70):
            checkpointer.save(step, {"w": jnp.zeros(2)}, {})
    assert [name.partition("_")[0] for name in names(tmp_path)] == ["0005", "0007", "0009", "0010"]
    assert [int(name[-8:]) for name in names(tmp_path)] == [20, 40, 60, 70]


def on_mesh(tree, devices):
    """The sharding of each leaf: matrices by rows over so many devices, the rest everywhere."""
    mesh = jax.make_mesh((devices,), ("fsdp",), (AxisType.Auto,), devices=jax.devices()[:devices])
    return jax.tree.map(
        lambda leaf: NamedSharding(mesh, PartitionSpec("fsdp") if leaf.ndim == 2 else PartitionSpec()), tree
    )


@pytest.mark.parametrize(("saved_on", "restored_on"), [(8, 8), (8, 2), (1, 4)])
def test_it_comes_back_onto_another_mesh(tmp_path, saved_on, restored_on):
    state = state_of(4)
    save(tmp_path, 1, jax.device_put(state, on_mesh(state, saved_on)), {})
    like = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        state,
        on_mesh(state, restored_on),
    )
    restored, _ = Checkpointer(tmp_path).restore(like) or pytest.fail("nothing there")
    assert_same_bytes(restored, state)
    jax.tree.map(lambda leaf, wanted: leaf.sharding == wanted.sharding or pytest.fail(), restored, like)


def largest(path):
    """The file that holds the arrays."""
    return max((file for file in path.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)


def flip_a_byte(path):
    data = bytearray(largest(path).read_bytes())
    data[len(data) // 2] ^= 1
    largest(path).write_bytes(data)


DAMAGES = {
    "cut": lambda path: largest(path).write_bytes(largest(path).read_bytes()[:-100]),
    "flipped": flip_a_byte,
    "lost": lambda path: largest(path).unlink(),
    "extra lost": lambda path: shutil.rmtree(path / "extra"),
    "no manifest": lambda path: (path / "manifest.json").unlink(),
    "leaves lost": lambda path: (path / "leaves.json").unlink(),
    "cut manifest": lambda path: (path / "manifest.json").write_text('{"state'),
    "odd manifest": lambda path: (path / "manifest.json").write_text("[]"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(three_saved, damage, caplog):
    newest = three_saved / "0003_step_00000030"
    DAMAGES[damage](newest)
    with caplog.at_level(logging.WARNING):
        assert restored_seed(Checkpointer(three_saved)) == 2
    assert f"{newest} is damaged" in caplog.text


def test_a_damaged_checkpoint_does_not_push_out_an_intact_one(three_saved):
    flip_a_byte(three_saved / "0003_step_00000030")
    checkpointer = Checkpointer(three_saved)
    assert restored_seed(checkpointer) == 2
    checkpointer.save(30, state_of(4), {"seed": 4})
    checkpointer.wait()
    assert names(three_saved) == ["0002_step_00000020", "0004_step_00000030"]
    assert restored_seed(Checkpointer(three_saved)) == 4


def test_nothing_is_restored_when_all_are_damaged(three_saved):
    for path in three_saved.iterdir():
        flip_a_byte(path)
    assert Checkpointer(three_saved).restore(state_of(0)) is None


@pytest.mark.parametrize(
    ("params", "difference"),
    [
        (lambda p: p | {"w": jnp.zeros((8, 17))}, "['w'] is float32[8, 16] there and float32[8, 17] here"),
        (lambda p: p | {"w": p["w"].astype(jnp.bfloat16)}, "float32[8, 16] there and bfloat16[8, 16] here"),
        (lambda p: p | {"new": jnp.zeros(2)}, "['new'] is missing there and float32[2] here"),
        (lambda p: {"w": p["w"]}, "['scale'] is float32[16] there and missing here"),
    ],
    ids=["shape", "type", "more", "fewer"],
)
def test_a_checkpoint_of_another_model_is_refused(three_saved, params, difference):
    other = init_state({"layer": params(state_of(0).params["layer"])}, OPTIMIZER)
    with pytest.raises(CheckpointMismatch, match=re.escape(difference)):
        Checkpointer(three_saved).restore(other)


def test_a_save_killed_at_any_moment_leaves_what_was_there(tmp_path):
    """Killed before each change that saving makes to the folder, with two checkpoints there already.

    Until the last moments the newer of those comes back, then the new one, and always a whole one. After the
    restart the same save goes through.
    """
    template, work = tmp_path / "template", tmp_path / "work"
    for step in (0, 1):
        save(template, step, {"w": jnp.full(1000, float(step))}, {"step": step})
    script = Path(__file__).with_name("killed_save.py")
    subprocess.run([sys.executable, script, template, work], check=True, timeout=300)
    restored = []
    for folder in sorted(work.iterdir()):
        found = Checkpointer(folder).restore({"w": jnp.zeros(1000)})
        state, extra = found or pytest.fail(f"nothing came back from {folder}")
        np.testing.assert_array_equal(state["w"], np.full(1000, extra["step"]))
        restored.append(extra["step"])
    assert restored == sorted(restored)
    assert restored.count(1) > 10 and restored.count(2) >= 3, "the kills missed the saving"
    for folder in (work / "005", work / f"{restored.index(2) + 1:03d}"):
        save(folder, 2, {"w": jnp.full(1000, 2.0)}, {"step": 2})
        assert len(names(folder)) == 2
        assert Checkpointer(folder).restore({"w": jnp.zeros(1000)})[1] == {"step": 2}
