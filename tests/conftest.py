"""Profiles, the warm-up before deadlines count, and skips that say why.

``MINIGRAD_PROFILE`` (or ``--hypothesis-profile``) chooses one of

- ``dev``: the default, minutes on two cores;
- ``ci``: more examples;
- ``intense``: thousands of examples, and the checks marked ``intense`` as well.
"""

import gc
import importlib
import os
import shutil
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import settings

import minigrad as mg
from minigrad import kernels, nn, optim
from minigrad.kernels import jit

PROFILES = {"dev": 10, "ci": 100, "intense": 2000}

# The deadline is per example, and holds because the session warms up first: no example compiles a common kernel.
# Formulas are slower than kernels (erf is a loop in Python): an example took 0.3 s, and 1.4 on a busy machine.
DEADLINE = timedelta(seconds=1 if jit.AVAILABLE else 5)
for name, examples in PROFILES.items():
    settings.register_profile(name, max_examples=examples, deadline=DEADLINE, print_blob=True)

if (chosen := os.environ.get("MINIGRAD_PROFILE", "dev")) not in PROFILES:
    raise pytest.UsageError(f"MINIGRAD_PROFILE is {chosen!r}, but must be one of {', '.join(PROFILES)}")
settings.load_profile(chosen)

DESELECTED = pytest.StashKey[int]()


def pytest_collection_modifyitems(config, items):
    if settings.get_current_profile_name() == "intense":
        return
    intense = [item for item in items if item.get_closest_marker("intense")]
    config.stash[DESELECTED] = len(intense)
    if intense:
        config.hook.pytest_deselected(items=intense)
        items[:] = [item for item in items if not item.get_closest_marker("intense")]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    """What a process that ran tests left out: each is given all of them."""
    node.config.stash[DESELECTED] = getattr(node, "workeroutput", {}).get("deselected", 0)


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["deselected"] = session.config.stash.get(DESELECTED, 0)


def pytest_terminal_summary(terminalreporter, config):
    if count := config.stash.get(DESELECTED, 0):
        terminalreporter.write_line(f"SKIPPED: {count} intense checks (they run with MINIGRAD_PROFILE=intense)")


def warm_up():
    """Compile every kernel, and run one small training step, so that no example pays for it."""
    for _kernel, _dtype in kernels.warm_up():
        pass
    for dtype in (np.float32, np.float64):
        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).astype(dtype)
        opt = optim.SGD(net.parameters(), lr=0.1)
        loss = mg.cross_entropy(net(mg.from_numpy(np.ones((5, 3), dtype))), np.zeros(5, np.int64))
        opt.zero_grad()
        loss.backward()
        opt.step()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session):
    """Before any process that runs tests is started: they find all kernels compiled."""
    warm_up()


@pytest.fixture(scope="session")
def requires():
    """``torch = requires("torch")`` imports a peer, or skips the test and prints why."""

    def load(name):
        try:
            return importlib.import_module(name)
        except ImportError as error:
            return pytest.skip(f"{name} is not installed ({error})")

    return load


@pytest.fixture(scope="session")
def chromium(requires):
    """A page of a headless browser, or a skip that says what is missing."""
    playwright = requires("playwright.sync_api")
    binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if binary is None:
        pytest.skip("there is no Chromium (on Debian: apt-get install chromium)")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=binary, args=quiet)
        yield browser.new_page()
        browser.close()


@pytest.fixture
def visit(chromium):
    """``visit(path)`` opens a page; at the end, it alone was requested and nothing complained."""
    complaints, requests = [], []
    listeners = {
        "console": lambda message: complaints.append(message.text),
        "pageerror": lambda error: complaints.append(str(error)),
        "request": lambda request: requests.append(request.url),
    }
    for event, listener in listeners.items():
        chromium.on(event, listener)

    def visit(path, scheme="light", width=1300):
        chromium.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        chromium.set_viewport_size({"width": width, "height": 850})
        chromium.goto(path.as_uri())
        return chromium

    yield visit
    for event, listener in listeners.items():
        chromium.remove_listener(event, listener)
    assert complaints == []
    assert [url[:5] for url in requests if not url.startswith("data:")] == ["file:"]


def pytest_collection_finish(session):
    """What has been collected lives to the end, and need not be looked through again and again."""
    gc.freeze()
