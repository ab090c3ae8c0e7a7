"""What the server answers, and whom: hostile names, hostile parameters, text that UTF-8 cannot hold."""

import http.client
import json
import urllib.parse

import pytest
from live_run import episode, save, spread, start, turn

from codegym_jax.report.live.server import names, trusted

KNOWN = {"localhost", "desk"}


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("localhost", True),
        ("LOCALHOST:8000", True),
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("[::1]", True),
        ("10.1.2.3", True),  # no name, so none that leads elsewhere
        ("desk:80", True),
        ("evil.example", False),
        ("evil.example:8000", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
    ],
)
def test_only_a_host_that_is_known_is_answered(host, answered):
    assert trusted(host, KNOWN) is answered


def test_runs_of_one_name_are_told_apart(tmp_path):
    paths = [tmp_path / "a" / "run", tmp_path / "b" / "run", tmp_path / "a" / "run"]
    assert list(names(paths)) == ["a/run", "b/run"]
    assert list(names(paths[:1])) == ["run"]


def get(address, path, **headers):
    place = urllib.parse.urlsplit(address)
    connection = http.client.HTTPConnection(place.hostname, place.port)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


@pytest.fixture
def run(tmp_path):
    folder = start(tmp_path / "run", steps=2)
    save(folder, 1, spread(4))
    return folder


def test_every_answer_says_what_a_browser_must_not_do(serve, run):
    address = serve(run)
    for path, status in (
        ("/", 200),
        ("/static/app.js", 200),
        ("/api/live", 200),
        ("/none", 404),
        ("/api/facts?run=x", 400),
    ):
        got, headers, _ = get(address, path)
        assert got == status
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "require-trusted-types-for 'script'" in policy
        assert "unsafe" not in policy and "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"


def test_a_name_from_elsewhere_gets_nothing(serve, run):
    status, _, body = get(serve(run), "/api/live", Host="evil.example")
    assert status == 421 and b"run" not in body


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/api/episodes?run=none", "no run 'none'; there is run"),
        ("/api/episodes?run=run&page=x", "page must be a number"),
        ("/api/episodes?run=run&from_step=1;", "from_step must be a number"),
        ("/api/episodes?run=run&sort=file", "sort must be one of"),
        ("/api/episode?run=run&id=../../config.json:0", "no episode '../../config.json:0'"),
        ("/api/episode?run=run&id=nothing", "no episode 'nothing'"),
        ("/api/metrics?run=run&count=x", "count must be a number"),
    ],
)
def test_wrong_parameters_are_told(serve, run, path, told):
    status, _, body = get(serve(run), path)
    assert status == 400 and told in json.loads(body)["error"]


def test_text_that_no_encoding_holds_comes_through(serve, tmp_path):
    folder = start(tmp_path / "run")
    save(folder, 1, [episode([turn("Peek", "half \ud83d of a pair, \0 and \x1b[31m")])])
    address = serve(folder)
    while not json.loads(get(address, "/api/live")[2])["run"]["episodes"]:
        pass
    body = json.loads(get(address, "/api/episode?run=run&id=train/step_000001:0")[2])
    assert body["turns"][0]["observation"] == "half \ud83d of a pair, \0 and \x1b[31m"


def test_nothing_is_loaded_from_elsewhere():
    """No file of the page names another host; the namespace of SVG is a name, not an address."""
    from codegym_jax.report.live.server import _FILES

    for entry in _FILES.iterdir():
        text = entry.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "//" not in text.replace("// ", "") or "http" not in text, entry.name
        assert "innerHTML" not in text and "insertAdjacentHTML" not in text and "eval(" not in text
