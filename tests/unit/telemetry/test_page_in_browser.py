"""The page in a real browser: while a start goes on, on a phone, in the dark, by keyboard."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ascend_serve.cli.plan_page import plan_page
from ascend_serve.config import load
from ascend_serve.events import EngineDied, Ready, Warming
from ascend_serve.planning import plan_deployment
from ascend_serve.planning.comparison import compare
from ascend_serve.telemetry.event_log import EventLog
from ascend_serve.telemetry.page import GraphPage
from ascend_serve.telemetry.page_server import PageServer
from ascend_serve.telemetry.page_view import LiveNumbers, NamedText, page_view
from ascend_serve.telemetry.story import Story
from tests.documents import ROOT
from tests.e2e.browser import CHROMIUM, Page, page
from tests.patience import wait_until
from tests.unit.cli.test_status import whole_start
from tests.unit.telemetry.test_event_log import STARTED, session

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

CONTRASTS = """(() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const linear = part => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => [r, g, b].map(v => linear(v / 255))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const back = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!own || ['SCRIPT', 'STYLE'].includes(element.tagName)) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(back(element))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) poor.push(element.outerHTML.slice(0, 80));
  }
  return poor;
})()"""
"""Elements whose text has less contrast than the guidelines for accessible content ask for (WCAG 2, 1.4.3)."""


STATE = "document.getElementById('state').innerText"
CELLS = "[...document.querySelectorAll('td.cell')].map(cell => cell.title)"
NUMBERS = LiveNumbers((NamedText("tokens per second", "120"),), {1: 50, 2: 20, 3: 100, 9: 1}, (1, 3, 8))


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with page() as opened:
        yield opened


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page with something in every part."""
    file = tmp_path_factory.mktemp("page") / "page.html"
    file.write_text(GraphPage().whole(page_view(Story.of(whole_start()), NUMBERS)), encoding="utf-8")
    return file.as_uri()


@contextmanager
def served(file: Path) -> Iterator[str]:
    """The address of the page of a file of events."""
    server = PageServer(file)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server.url
    finally:
        server.stop()
        thread.join()


def test_cells_change_without_a_reload_while_a_start_goes_on(browser: Page, tmp_path: Path) -> None:
    log = EventLog(tmp_path / "1.jsonl")
    log.append(STARTED)
    assert log.file is not None
    with served(log.file) as url:
        browser.open(url)
        assert wait_until(lambda: "Live" in browser.run("document.getElementById('connection').innerText"), pause=0.05)
        browser.run("window.sameDocument = 1")
        events = session(quota=3)
        half = next(number for number, event in enumerate(events) if isinstance(event, Warming)) + 1
        log.append(*events[:half])
        capturing = ["planned", "planned", "planned", "warming up or capturing"]
        assert wait_until(lambda: browser.run(CELLS) == capturing, pause=0.05), browser.run(CELLS)
        log.append(*events[half:], Ready(time=9.0))
        held = ["failed here", *["held by all ranks"] * 3]
        assert wait_until(lambda: browser.run(CELLS) == held, pause=0.05), browser.run(CELLS)
        text = browser.run(STATE)
        assert "It serves." in text
        assert "Stream resources are insufficient" in text
        assert browser.run("window.sameDocument") == 1
        assert browser.complaints == []
        browser.open("about:blank")


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of the page of a plan with something in every part."""
    overrides = ["graph.capture_sizes=[8, 16, 900]", "vllm.max_num_seqs=20"]
    plan = plan_deployment(load(ROOT / "configs" / "qwen3-32b.yaml", overrides))
    file = tmp_path_factory.mktemp("plan") / "plan.html"
    file.write_text(plan_page(plan, compare(plan)), encoding="utf-8")
    return file.as_uri()


@pytest.mark.parametrize("shown", ["stored", "planned"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1000], ids=["phone", "desk"])
def test_it_can_be_read(browser: Page, shown: str, request: pytest.FixtureRequest, width: int, dark: bool) -> None:
    browser.look(width=width, dark=dark)
    browser.open(request.getfixturevalue(shown))
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run(CONTRASTS) == []
    assert browser.complaints == []


def test_what_was_opened_stays_open(browser: Page, tmp_path: Path) -> None:
    log = EventLog(tmp_path / "1.jsonl")
    log.append(STARTED, *session(), Ready(time=9.0), EngineDied(time=10.0, text="rank 1 was killed\nits log says"))
    assert log.file is not None
    with served(log.file) as url:
        browser.open(url)
        browser.run("document.getElementById('state-account').open = true")
        log.append(*[event.model_copy(update={"incarnation": 1, "time": 20.0 + event.time}) for event in session()])
        assert wait_until(lambda: "The ranks hold their graphs" in browser.run(STATE), pause=0.05), browser.run(STATE)
        assert "its log says" in browser.run(STATE)


def test_it_can_be_used_by_keyboard(browser: Page, stored: str) -> None:
    browser.look()
    browser.open(stored)
    reached = []
    for _ in range(14):
        browser.press("Tab")
        reached.append(browser.run("document.activeElement.innerText.slice(0, 20) + '#' + document.activeElement.id"))
    assert reached[0].startswith("To the content")
    assert "Ranks and graphs#" in reached
    assert any(place.endswith("#matrix-scroll") for place in reached)
