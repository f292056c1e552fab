"""The page in a real browser, over a real socket, with the small shop behind it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect, sync_playwright

from deploy.demo.app import create_app
from tests.deploy.demo.small_shop import BUNDLE_ID, Down, OwnFirst

pytestmark = pytest.mark.browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)
DESKTOP = {"width": 1400, "height": 900}
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"browser: got none of {', '.join(NAMES)} on the path, want a Chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def serve(small_shop, small_index):
    """Serve the page with any ranker on a free port; all end with the module."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(ranker) -> str:
        app = create_app(small_shop, small_index, ranker, report_path=None)
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", ws="none"))
        thread = threading.Thread(target=server.run)
        thread.start()
        running.append((server, thread))
        while not server.started:
            thread.join(0.02)
            assert thread.is_alive()
        port = server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def address(serve) -> str:
    return str(serve(OwnFirst()))


@pytest.fixture
def open_page(browser):
    """Open an address in a window of its own; the test fails on any console error."""
    contexts = []
    errors: list[str] = []

    def start(address: str, **options) -> Page:
        options = {"viewport": DESKTOP, "reduced_motion": "reduce"} | options
        context = browser.new_context(**options)
        contexts.append(context)
        page: Page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        return page

    yield start
    for context in contexts:
        context.close()
    assert errors == []


def ids(page: Page, side: str) -> list[str]:
    return [row.get_attribute("data-id") or "" for row in page.locator(f"#{side} .row").all()]


def search(page: Page, text: str) -> None:
    page.keyboard.press("/")
    page.keyboard.type(text)
    page.keyboard.press("Enter")


def test_typing_a_query_fills_both_columns_in_different_orders(open_page, address):
    page = open_page(f"{address}/?shopper=6&q=apples")
    expect(page.locator("#before .row")).to_have_count(6)
    search(page, "yogurt")
    expect(page.locator("#before .row")).to_have_count(12)
    expect(page.locator("#after .row")).to_have_count(12)
    assert ids(page, "before")[:4] == ["100", "101", "102", "109"]
    assert ids(page, "after")[:4] == ["109", "100", "101", "102"]
    first = page.locator("#after-109")
    expect(first).to_contain_text("▲ 3")
    expect(first).to_contain_text("bought before \N{MULTIPLICATION SIGN}9")
    expect(first).to_contain_text("bought this week")
    expect(first).to_contain_text("Dairy & eggs")
    expect(page.locator("#figures")).to_contain_text("0.43→1.00")
    expect(page.locator("#figures")).to_contain_text(BUNDLE_ID[:8])
    expect(page.locator("#profile")).to_contain_text("9 baskets, 9 products")


def test_keyboard_moves_explains_and_switches_slots(open_page, address):
    page = open_page(f"{address}/?shopper=6&q=yogurt")
    expect(page.locator("#after .row")).to_have_count(12)
    page.keyboard.press("j")
    expect(page.locator("#after-109")).to_be_focused()
    page.keyboard.press("j")
    expect(page.locator("#after-100")).to_be_focused()
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    expect(page.locator("#why")).to_contain_text("Place 4 → 1")
    expect(page.locator("#why .groups")).to_contain_text("Bought before")
    page.keyboard.press("t")
    expect(page.locator("#before-109")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tab-home")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#before .row")).to_have_count(20)
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#tab-search")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#help")).not_to_be_visible()


def test_pointing_at_a_product_marks_its_twin_with_a_line(open_page, address):
    page = open_page(f"{address}/?shopper=6&q=yogurt")
    page.locator("#before-101").hover()
    expect(page.locator("#after-101")).to_have_class("row twin")
    expect(page.locator("#links path.active")).to_have_count(1)
    expect(page.locator("#links path.truth-link")).to_have_count(1)


def test_suggestions_are_taken_with_the_arrow_keys(open_page, address):
    page = open_page(f"{address}/?shopper=6&q=yogurt")
    expect(page.locator("#after .row")).to_have_count(12)
    page.keyboard.press("/")
    page.keyboard.type("pizz")
    expect(page.locator("#suggestions li")).to_have_count(2)
    page.keyboard.press("ArrowDown")
    expect(page.locator("#suggestions li").first).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    expect(page.locator("#before .row")).to_have_count(8)


def test_slots_open_and_a_category_can_be_chosen(open_page, address):
    page = open_page(f"{address}/?shopper=6&q=yogurt")
    page.click("#tab-promotion")
    expect(page.locator("#before .row")).to_have_count(2)
    expect(page.locator("#legend li")).to_have_count(2)
    page.click("#tab-discovery")
    expect(page.locator("#after .row")).to_have_count(20)
    page.click("#more")
    expect(page.locator("#after .row")).to_have_count(25)
    page.click("#tab-category")
    page.select_option("#category", "produce")
    expect(page.locator("#after .row")).to_have_count(6)


def test_surprise_jumps_to_a_search_that_the_shopper_makes_next(open_page, address):
    page = open_page(f"{address}/?shopper=6&surface=home")
    expect(page.locator("#after .row")).to_have_count(20)
    page.click("#surprise")
    expect(page.locator("#tab-search")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#after .truth")).to_have_count(1)
    assert page.input_value("#query").split()[0] in {
        "yogurt", "frozen", "pizza/economy", "apples",
    }  # fmt: skip


def test_markup_in_a_query_and_unknown_words_are_shown_as_text(open_page, address):
    page = open_page(f"{address}/?shopper=6&q=yogurt")
    expect(page.locator("#after .row")).to_have_count(12)
    with page.expect_response("**/api/page**"):
        search(page, "<img src=x onerror=alert(1)>")
    expect(page.locator("#notice")).to_contain_text("<img src=x onerror=alert(1)>")
    expect(page.locator("#notice img")).to_have_count(0)
    expect(page.locator("#after .row")).to_have_count(0)


def test_a_phone_shows_one_order_at_a_time_and_reasons_in_a_sheet(open_page, address):
    page = open_page(f"{address}/?shopper=6&q=yogurt", viewport=PHONE, has_touch=True)
    expect(page.locator("#after-109")).to_be_visible()
    expect(page.locator("#before-109")).not_to_be_visible()
    page.get_by_role("button", name="Retrieval").tap()
    expect(page.locator("#before-109")).to_be_visible()
    expect(page.locator("#after-109")).not_to_be_visible()
    page.locator("#before-109").tap()
    expect(page.locator("#why")).to_contain_text("Place 4 → 1")
    expect(page.locator("#why")).to_be_in_viewport()
    page.get_by_role("button", name="Close").tap()
    expect(page.locator("#why")).not_to_be_visible()
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width == PHONE["width"]


def test_a_page_that_could_not_be_scored_shows_a_notice(open_page, serve):
    page = open_page(f"{serve(Down())}/?shopper=6&q=yogurt")
    expect(page.locator("#notice")).to_contain_text("Retrieval order is shown on both sides")
    assert ids(page, "before") == ids(page, "after")


def test_rows_travel_from_retrieval_order_when_motion_is_welcome(open_page, address):
    page = open_page(f"{address}/?shopper=6&q=yogurt", reduced_motion="no-preference")
    expect(page.locator("#after .row")).to_have_count(12)
    page.keyboard.press("r")
    moving = "document.querySelector('#after-109').getAnimations().length"
    assert page.evaluate(moving) == 1
    move = "document.querySelector('#after-109').getAnimations()[0].finished.then(() => true)"
    assert page.evaluate(move)
    assert page.evaluate(moving) == 0
    expect(page.locator("#links path")).not_to_have_count(0)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_keeps_its_contrast(open_page, address, theme):
    page = open_page(f"{address}/?shopper=6&q=yogurt", color_scheme=theme)
    expect(page.locator("html")).to_have_attribute("data-theme", theme)
    expect(page.locator("#after .row")).to_have_count(12)
    script = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
    assert page.evaluate(script) == []
