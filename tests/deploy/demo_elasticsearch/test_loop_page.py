"""The page of the loop says what the steps have left, also in a real browser."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from deploy.demo_elasticsearch.loop_folder import Done, LoopFolder
from deploy.demo_elasticsearch.loop_page import ARMS, METRICS, PageFacts, write_page
from deploy.demo_elasticsearch.shop_folder import ShopFacts
from tests.deploy.demo.test_page_in_browser import FLAGS, NAMES, PHONE

# 1 x 1 pixel
PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c63600000000200015e2a9c0c0000000049454e44ae426082"
)


def rate(arm, metric, value):
    ends = {"low": value - 0.1, "high": value + 0.1, "searches": 100, "shoppers": 20}
    return {"group": "variant", "name": arm, "metric": metric, "value": value, **ends}


def comparison(category, low, high):
    figures = {"retrieval": 0.3, "serving": 0.4, "candidate": 0.45, "low": low, "high": high}
    return {"category": category, "pages": 50, **figures}


def done_of(decision="canary"):
    product = {"id": "p1", "title": "Milk <b>", "text": "dairy > milk", "category": "dairy"}
    return Done(
        key="k",
        rounds=1,
        traffic={"reranked": 51, "day_seconds": 40, "table": "arm  searches", "begin": "now"},
        learned={
            "decision": decision,
            "reasons": [] if decision == "canary" else ["dairy: got 0.3, want 0.4"],
            "duration_s": 12.4,
            "candidate": {
                "bundle_id": "c" * 64,
                "pages": 321,
                "started_from": "var/demo/runs/demo-1",
                "validation_ndcg": 0.5,
            },
            "comparisons": [comparison("all", 0.01, 0.09), comparison("dairy", -0.2, -0.1)],
        },
        canary={"table": "arm  canary"} if decision == "canary" else {},
        quality={
            "quality": [rate(arm, metric, 0.5) for arm in ARMS for metric in METRICS],
            "experiment": [
                {"metric": "ctr", "lift": 0.083, "low": -0.1, "high": 0.2, "p_value": 0.2,
                 "decision": "go on", "ratio": {"observed": 0.5}},
            ],
            "drift": [],
        },
        examples=[
            {"shopper": 3, "words": "milk", "purchases": 40, "took_ms": 9.0,
             "retrieval": [{**product, "was": 1, "bought": 0}],
             "reranked": [{**product, "was": 4, "bought": 2}]},
        ],
        commands=[{"command": "crossrank es apply", "seconds": 1.5}, {"command": "crossrank"}],
    )  # fmt: skip


@pytest.fixture
def page(tmp_path):
    folder = LoopFolder(tmp_path)
    folder.pictures.mkdir()
    (folder.pictures / "crossrank-quality.png").write_bytes(PICTURE)

    def write(decision="canary"):
        shop = ShopFacts(products=54_102, shoppers=300, purchases=9, moved_days=7)
        running = {"gateway": "http://127.0.0.1:9"}
        write_page(folder.page, PageFacts(done_of(decision), shop, running, folder.pictures))
        return folder.page

    return write


def test_it_shows_traffic_arms_the_gate_both_orders_and_commands(page):
    text = page().read_text()
    for said in (
        "54,102 products",
        "300\n",  # searches of three arms
        "+8.3 points",
        "published the new bundle as canary",
        "321 pages, from the serving weights, 12 s",
        "50.0 % [40.0 %, 60.0 %]",
        '<td class="better">better</td>',
        '<td class="worse">worse</td>',
        "Milk &lt;b&gt;",
        "\u25b2 3",  # from place 4 to place 1
        'src="pictures/crossrank-quality.png"',
        "crossrank es apply",
        "http://127.0.0.1:9",
    ):
        assert said.strip() in text, said


def test_a_bundle_that_was_not_published_is_said_with_its_reason(page):
    text = page("rejected").read_text()
    assert "published nothing" in text
    assert '<p class="down">dairy: got 0.3, want 0.4</p>' in text


def test_what_was_published_serves_the_next_round():
    done = done_of()
    done.learned["candidate"] |= {"folder": "rounds/1/candidates/c", "run": "rounds/1/runs/r"}
    following = done.next_round()
    assert (following.rounds, following.traffic, following.commands) == (2, {}, [])
    assert following.serving == {"folder": "rounds/1/candidates/c", "run": "rounds/1/runs/r"}
    rejected = done_of("rejected")
    assert rejected.next_round().serving == {}


def test_another_bundle_forgets_what_was_done_but_not_how_often(tmp_path):
    folder = LoopFolder(tmp_path)
    folder.keep(done_of())
    assert folder.done("k").learned["decision"] == "canary"
    assert folder.done("another") == Done("another", 1)


@pytest.mark.browser
def test_the_saved_page_opens_from_a_file_and_fits_a_phone(page):
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"browser: got none of {', '.join(NAMES)} on the path, want a Chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        phone: Any = PHONE  # Playwright has a type of its own
        opened = browser.new_page(viewport=phone)
        complaints = []
        opened.on("console", lambda said: complaints.append(said.text))
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.goto(page().as_uri())
        assert opened.get_by_role("heading", name="The loop, closed once").is_visible()
        assert not opened.locator("#live").is_visible()  # nobody there to ask
        picture = opened.get_by_alt_text("Quality")
        picture.scroll_into_view_if_needed()
        opened.wait_for_function("document.querySelector('img').naturalWidth === 1")
        assert opened.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        assert complaints == []
        browser.close()
