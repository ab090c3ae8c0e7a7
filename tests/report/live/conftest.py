"""A browser for the tests of the page, and the page served as `codegym view` serves it."""

import contextlib
import threading

import pytest
from playwright.sync_api import expect, sync_playwright

from codegym_jax.report.live.serving import address, listen, server
from tests.browser import BrowserError, find

_PATIENCE_MS = 60_000  # how long a wrong page may keep a test waiting; a right one is not waited for


@pytest.fixture(scope="module")
def browser():
    """A browser; no longer than a module, as Playwright keeps an event loop running in the tests' thread."""
    try:
        path = find()
    except BrowserError as error:
        pytest.fail(str(error))
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
