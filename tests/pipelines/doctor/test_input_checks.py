"""What a config takes from outside: found, damaged, missing; and a hub that answers in every way."""

import dataclasses
import http.server
import json
import shutil
import socket
import threading

import pytest

from codegym_jax.config import DataConfig, PolicyConfig, RunConfig, SynthesisConfig
from codegym_jax.data.tokenizer import train_bpe
from codegym_jax.envs.artefact import find_artefact
from codegym_jax.pipelines.doctor import inputs
from codegym_jax.pipelines.doctor.finding import Status

OK, WARN, FAIL, NOT_CHECKED = Status.OK, Status.WARN, Status.FAIL, Status.NOT_CHECKED


def test_a_task_set_and_a_damaged_copy_of_it(tiny_task_set, tmp_path):
    named, own = tmp_path / "named", tmp_path / "task_set"
    config = RunConfig(data=DataConfig(task_set=str(named)))
    shutil.copytree(tiny_task_set, named)
    [found] = inputs.check_tasks(config, None)
    assert found.status is FAIL and "was verified on the guest unknown" in found.found
    manifest = json.loads((named / "manifest.json").read_text())
    manifest["guest_hash"] = find_artefact().wasm_sha256
    (named / "manifest.json").write_text(json.dumps(manifest))
    [found] = inputs.check_tasks(config, None)
    assert (found.status, found.found) == (OK, f"{named}: 1 environments, 12 tasks")
    shutil.copytree(named, own)
    [found] = inputs.check_tasks(config, tmp_path)
    assert found.status is OK and str(own) in found.found, "the run's own copy comes first"
    (own / "training_instance.jsonl").write_text("{}\n")
    [found] = inputs.check_tasks(config, tmp_path)
    assert found.status is FAIL and "training_instance.jsonl" in found.found


def test_problems_that_are_there_and_one_that_is_not(tmp_path):
    (tmp_path / "rows.jsonl").write_text("{}\n")
    sources = ("humaneval", str(tmp_path / "rows.jsonl"), str(tmp_path / "absent.jsonl"))
    config = RunConfig(synthesis=SynthesisConfig(sources=sources))
    assert [found.status for found in inputs.check_tasks(config, tmp_path)] == [OK, OK, FAIL]


def test_a_tokenizer(tmp_path):
    assert inputs.check_tokenizer(RunConfig()).status is NOT_CHECKED
    made = train_bpe(["to be or not to be"], max_vocabulary=280, special_tokens=["<|end|>"])
    made.save(tmp_path / "tokenizer.json")
    config = RunConfig(policy=PolicyConfig(tokenizer=str(tmp_path / "tokenizer.json")))
    found = inputs.check_tokenizer(config)
    assert found.status is OK and f"{made.vocabulary_size} ids" in found.found
    (tmp_path / "tokenizer.json").write_text("{")
    assert inputs.check_tokenizer(config).status is FAIL


def test_weights_that_are_missing_or_on_the_hub(tmp_path):
    assert inputs.check_weights(RunConfig()).status is NOT_CHECKED
    for source, status in ((str(tmp_path), FAIL), ("nowhere/at/all", FAIL), ("hub:a/b", NOT_CHECKED)):
        assert inputs.check_weights(RunConfig(policy=PolicyConfig(weights=source))).status is status


@pytest.fixture
def hub():
    """A real server whose repositories are named by the status that it gives."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append((self.path, self.headers.get("Authorization")))
            self.send_response(int(self.path.split("/")[3]))
            self.end_headers()

        def log_message(self, format, *args):
            pass

    asked = []
    with http.server.ThreadingHTTPServer(("localhost", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_address[1]}", asked
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("code", "status", "says"),
    [
        (200, OK, "has 200/model"),
        (401, WARN, "private, gated, or not there; HF_TOKEN is set"),
        (403, WARN, "private, gated"),
        (404, FAIL, "not there"),
        (503, WARN, "says 503"),
    ],
)
def test_what_the_hub_says(hub, monkeypatch, code, status, says):
    """The token is never sent; whether there is one is told."""
    monkeypatch.setenv("HF_TOKEN", "hf_not_a_real_one")
    monkeypatch.setenv("HF_ENDPOINT", hub[0])
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    config = RunConfig(policy=PolicyConfig(weights=f"hub:{code}/model@v2"))
    found = inputs.check_hub(config)
    assert found.status is status and says in found.found
    assert hub[1] == [(f"/api/models/{code}/model/revision/v2", None)]


def test_a_hub_that_is_not_needed_or_not_reached(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert inputs.check_hub(RunConfig()).status is NOT_CHECKED
    with socket.create_server(("localhost", 0)) as server:
        address = f"http://localhost:{server.getsockname()[1]}"
    found = inputs.look_up(address, "a/b", "main")
    assert found.status is FAIL and address in found.found and "HF_ENDPOINT" in found.fix
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config = dataclasses.replace(RunConfig(), policy=PolicyConfig(weights="hub:a/b"))
    assert inputs.check_hub(config).status is NOT_CHECKED
