"""A browser for the tests of the page, and the page served as `codegym view` serves it."""

import contextlib
import os
import shutil
import threading

import pytest
from playwright.sync_api import expect, sync_playwright

from codegym_jax.report.live.serving import address, listen, server

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_PATIENCE_MS = 60_000  # how long a wrong page may keep a test waiting; a right one is not waited for


def _browser_path() -> str:
    named = os.environ.get("CODEGYM_BROWSER")
    found = next(filter(None, map(shutil.which, [named] if named else _NAMES)), None)
    if found is None:
        tried = f"CODEGYM_BROWSER={named}" if named else ", ".join(_NAMES)
        pytest.fail(
            f"no browser: {tried} is not on PATH. Install one (`apt install chromium`, `brew install --cask"
            " chromium`), or set CODEGYM_BROWSER to a Chromium or Chrome, such as the one that `python -m"
            " playwright install chromium` fetches, or that the npm package @sparticuz/chromium holds"
            " (bin/chromium.br, compressed by brotli)."
        )
    return found


@pytest.fixture(scope="module")
def browser():
    """A browser; no longer than a module, as Playwright keeps an event loop running in the tests' thread."""
    path = _browser_path()
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path)


@pytest.fixture
def serve(tmp_path):
    """Serves runs until the test ends, and returns the address."""
    with contextlib.ExitStack() as stack:

        def start(*runs):
            bound = stack.enter_context(contextlib.closing(listen("127.0.0.1", 0)))
            running = stack.enter_context(server(runs, tmp_path / "cache"))
            thread = threading.Thread(target=running.run, kwargs={"sockets": [bound]})
            thread.start()

            def stop():
                running.should_exit = True
                thread.join()

            stack.callback(stop)
            return address(bound).rstrip("/")

        yield start


@pytest.fixture
def page(browser, serve):
    """A page of a fresh profile, closed before what is served ends; fails the test on any error in it."""
    complaints = []
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(_PATIENCE_MS)
    expect.set_options(timeout=_PATIENCE_MS)
    opened = context.new_page()
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    yield opened
    context.close()
    assert complaints == []
