"""The API page for people: it has everything that the OpenAPI page has, and loads nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from rerank_server.http_docs import SECURITY_POLICY, docs_page
from rerank_server.http_openapi import openapi_page

VOID = {"meta"}


class Outline(HTMLParser):
    """Collects ids, links and the tags that are left open."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in {"href", "src"}:
                self.links.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def outline() -> Outline:
    parsed = Outline()
    parsed.feed(docs_page())
    return parsed


def test_the_page_is_well_formed_and_every_link_has_its_target():
    page = outline()
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    for link in page.links:
        assert link == "openapi.json" or link.removeprefix("#") in page.ids


def test_the_page_loads_nothing_and_runs_nothing():
    page = outline()
    assert not page.tags & {"script", "img", "link", "iframe", "object"}
    assert not re.search(r"https?://|url\(|@import", docs_page())
    assert "default-src 'none'" in SECURITY_POLICY


def test_every_path_status_and_field_is_on_it():
    page, text = openapi_page(), docs_page()
    for path, methods in page["paths"].items():
        assert f'id="{path}"' in text
        for status in methods["post"]["responses"]:
            assert f"<code>{status}</code>" in text
    for name, schema in page["components"]["schemas"].items():
        section = text.partition(f'<h3 id="{name}">')[2].partition("<h3")[0]
        for field in schema["properties"]:
            assert f"<code>{field}" in section
