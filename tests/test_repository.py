"""What holds for the whole repository, whoever wrote the file."""

import ast
import re
import subprocess
import tomllib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MACHINE_PATH = re.compile(r"(?<![\w.~}])/(?:work|root|home|Users|mnt|scratch)/\w+")


@pytest.fixture(scope="module")
def tracked() -> dict[str, str]:
    """Path -> text of every text file that git tracks."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    texts = {}
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        data = path.read_bytes() if path.is_file() else b"\0"
        if b"\0" not in data[:8192]:
            texts[name] = data.decode()
    return texts


def test_the_layer_contract_is_the_designed_one():
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    assert contract["exhaustive"]
    assert [{name.strip("() ") for name in layer.split("|")} for layer in contract["layers"]] == [
        {"cli"},
        {"pipelines", "adapters"},
        {"evals", "report"},
        {"synthesis", "rollout", "algorithms", "trainer"},
        {"envs", "models", "data"},
        {"config", "records", "metrics"},
    ]


@pytest.mark.parametrize("folder", ["codegym_jax", "configs", "tests", "benchmarks"])
def test_every_module_opens_with_what_it_is(folder):
    silent = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*.py")
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_no_file_names_a_place_on_someones_machine(tracked):
    found = {name: MACHINE_PATH.findall(text) for name, text in tracked.items()}
    assert {name: paths for name, paths in found.items() if paths} == {}


def test_the_path_check_can_fail():
    slash = "/"
    assert MACHINE_PATH.search(f'open("{slash}home/ada/x")')
    assert MACHINE_PATH.search(f"cd {slash}work/main")
    assert not MACHINE_PATH.search("https://example.org/home/ada, ~/work/x, $HOME/root/x")


def test_the_lock_pins_versions_and_names_no_place(tracked):
    lines = [line for line in tracked["requirements.lock"].splitlines() if not line.startswith("#")]
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; .+)?", line)] == []


def test_every_dependency_is_in_the_lock(tracked):
    project = tomllib.loads(tracked["pyproject.toml"])["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    wanted += project["optional-dependencies"]["problems"]
    locked = set(re.findall(r"^[a-z0-9-]+", tracked["requirements.lock"], re.MULTILINE))
    assert {re.match(r"[\w-]+", line)[0] for line in wanted} - locked == set()


def test_test_files_have_names_of_their_own(tracked):
    """Without `__init__.py` pytest imports test files by their bare name."""
    names = Counter(Path(name).name for name in tracked if re.match(r"tests/.*test_\w+\.py$", name))
    assert [name for name, count in names.items() if count > 1] == []
