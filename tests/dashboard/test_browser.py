"""The pages in a real browser: nothing breaks, nothing is fetched from elsewhere, nothing is wider than the screen."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

from driftline.store.engine import reading
from driftline.store.tables import Reoptimization

pytestmark = pytest.mark.browser

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--no-sandbox", "--headless", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
MAIN = ("overview", "variant", "comparison", "drift_event", "alerts", "proposal")  # the others in two of four looks
PAGES = {
    "overview": "/", "variant": "/variants/smollm2-int8", "comparison": "/comparisons/{comparison}",
    "drift_event": "/drift-events/{event}", "alerts": "/alerts", "alert": "/alerts/{alert}",
    "proposal": "/reoptimizations/{proposed}", "repaired": "/reoptimizations/{promoted}",
    "golden_set": "/golden-sets/capitals",
    "from_traffic": "/golden-versions/{version}/from-traffic?days=366",
    "replay": "/replays/{replay}", "monitors": "/monitors", "monitor": "/monitors/{monitor}",
    "jobs": "/jobs", "variants": "/variants", "api": "/docs", "login": "/login",
    "routes": "/routes", "people": "/people", "intake": "/intake", "calls": "/generations", "rules": "/rules",
}  # fmt: skip
OVERFLOW = """
() => [...document.querySelectorAll("body *")]
  .filter((one) => one.getBoundingClientRect().right > innerWidth + 1 && !one.closest("pre, .js-plotly-plot, .unseen, thead"))
  .map((one) => one.tagName + "." + one.className)
"""  # noqa: E501


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    if not CHROMIUM.exists():
        pytest.skip(f"needs Chromium at {CHROMIUM}")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def address(app: FastAPI, seeded: Any) -> Iterator[str]:
    """Where the application is served over real HTTP."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


class Visit:
    """One browser tab that remembers what went wrong and where requests went."""

    def __init__(self, browser: Any, address: str, width: int = 1280, theme: str = "light") -> None:
        self.address, self.troubles = address, []  # type: ignore[var-annotated]
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.troubles.append(f"error {error}"))
        self.page.on("console", self._heard)
        self.page.on("request", self._asked)
        self.page.on("response", self._answered)

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning", "trace"):
            self.troubles.append(f"{message.type} {message.text}")

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.troubles.append(f"asked elsewhere {request.url}")

    def _answered(self, response: Any) -> None:
        if response.status >= 400:
            self.troubles.append(f"{response.status} {response.url}")

    def open(self, path: str) -> Any:
        self.page.goto(self.address + path, wait_until="load")
        for plot in self.page.locator("[data-plot]").all():
            plot.locator(".main-svg").first.wait_for(timeout=20_000)
        return self.page


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_look_right(
    width: int, theme: str, browser: Any, address: str, seeded: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp(f"screens_{width}_{theme}")
    visit = Visit(browser, address, width, theme)
    everything = (width, theme) in ((1280, "light"), (390, "dark"))
    for name, path in PAGES.items() if everything else [(name, PAGES[name]) for name in MAIN]:
        page = visit.open(path.format(**seeded.ids))
        page.screenshot(path=str(folder / f"{name}.png"), full_page=True)

        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert page.evaluate(OVERFLOW) == [], name
        assert page.locator("h1").count() == 1, name
        assert visit.troubles == [], name


def test_hostile_text_runs_nowhere(browser: Any, address: str, seeded: Any) -> None:
    visit = Visit(browser, address)
    visit.page.on("dialog", lambda dialog: visit.troubles.append(f"dialog {dialog.message}"))
    for path in ("/", "/comparisons/{comparison}", "/golden-sets/capitals", "/replays/{replay}", "/jobs", "/alerts"):
        page = visit.open(path.format(**seeded.ids))
        assert page.locator("img[src='x']").count() == 0

    assert visit.troubles == []


def test_a_click_approves_the_proposal_and_the_page_follows(browser: Any, address: str, seeded: Any) -> None:
    visit = Visit(browser, address)
    page = visit.open("/")
    page.get_by_role("link", name="Review and decide").click()
    page.get_by_role("button", name="Approve").click()
    page.get_by_role("status").filter(has_text="Approved").wait_for()

    with reading() as session:
        assert session.get_one(Reoptimization, seeded.ids["proposed"]).state == "approved"
    _move_on(seeded, "building")
    page.locator("li[aria-current=step]", has_text="building").wait_for(timeout=10_000)  # without a reload
    assert visit.troubles == []


def _move_on(seeded: Any, state: str) -> None:
    from driftline.acts.reoptimizations import move
    from driftline.store.engine import writing

    with writing() as session:
        move(session, session.get_one(Reoptimization, seeded.ids["proposed"]), ("approved",), state, "scheduler")


def test_flips_turn_pages_in_place(browser: Any, address: str, seeded: Any) -> None:
    visit = Visit(browser, address)
    page = visit.open(f"/comparisons/{seeded.ids['comparison']}")
    first = page.locator(".flip .asked").first.inner_text()
    page.get_by_role("button", name="Later").click()
    page.get_by_text("7–12 of").wait_for()

    assert page.locator(".flip .asked").first.inner_text() != first
    page.get_by_role("button", name="Got better").click()
    page.locator("button[aria-pressed=true]", has_text="Got better").wait_for()
    assert visit.troubles == []


def test_the_report_shows_in_its_sandbox_and_cannot_reach_the_page(browser: Any, address: str, seeded: Any) -> None:
    visit = Visit(browser, address)
    page = visit.open(f"/drift-events/{seeded.ids['event']}")
    page.locator("iframe.report").scroll_into_view_if_needed()
    frame = page.frame_locator("iframe.report")
    frame.get_by_role("heading", name="Report").wait_for()

    assert frame.locator("body[data-ran=yes]").count() == 1  # its own script runs
    assert page.frames[1].evaluate("self.origin") == "null"  # and belongs to nobody
    assert visit.troubles == []


def test_the_menu_opens_by_keyboard_on_a_narrow_screen(browser: Any, address: str, seeded: Any) -> None:
    page = Visit(browser, address, width=390).open("/")
    assert not page.get_by_role("link", name="Golden sets").is_visible()
    page.get_by_role("button", name="Menu").focus()
    page.keyboard.press("Enter")

    assert page.get_by_role("link", name="Golden sets").is_visible()
    assert page.get_by_role("button", name="Menu").get_attribute("aria-expanded") == "true"


def test_what_is_hard_to_undo_is_asked_first(browser: Any, address: str, seeded: Any) -> None:
    visit = Visit(browser, address)
    page = visit.open(f"/reoptimizations/{seeded.ids['promoted']}")
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    page.get_by_role("button", name="Undo the promotion").click()

    assert asked == ["Point route default back at what it pointed at before?"]
    with reading() as session:
        assert session.get_one(Reoptimization, seeded.ids["promoted"]).state == "promoted"


def test_charts_follow_a_change_of_theme(browser: Any, address: str, seeded: Any) -> None:
    page = Visit(browser, address).open(f"/drift-events/{seeded.ids['event']}")
    ink = "getComputedStyle(document.querySelector('.xtick text')).fill"
    light = page.evaluate(ink)
    page.emulate_media(color_scheme="dark")
    deadline = time.monotonic() + 10  # Playwright's own wait evaluates strings, which the pages forbid
    while page.evaluate(ink) == light:
        assert time.monotonic() < deadline, "the chart kept the colours of the light theme"
        time.sleep(0.05)
