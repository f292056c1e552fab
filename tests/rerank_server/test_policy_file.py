"""A policy file changes while it serves: everywhere or nowhere, and never for the worse."""

from __future__ import annotations

import asyncio
import logging
import os
import re

import pytest

from rerank_server.page import SearchPage
from rerank_server.policy_file import MAX_BYTES, PolicyFile, read_policy
from rerank_server.policy_rules import PolicyError
from rerank_server.reranker import Reranker
from tests.rerank_server.tiny_bundle import NOW

HIDE_DOG = '[[hide]]\nname = "no dogs"\nproducts = ["dog-1"]\n'
HIDE_MILK = '[[hide]]\nname = "no milk"\ncategories = ["dairy"]\n'
PAGE = SearchPage(["dog-1", "milk-1", "never-seen"], time=NOW)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text(HIDE_DOG, encoding="utf-8")
    return path


@pytest.fixture
def reranker(tiny_folders) -> Reranker:
    return Reranker.open(tiny_folders.bundle, tiny_folders.products, threads=1)


def shown(reranker: Reranker) -> set[str]:
    return set(reranker.rerank(PAGE).candidate_ids)


def replace(path, text: str) -> None:
    """Write as an editor or a ConfigMap does: another file in the place of the first."""
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)  # noqa: PTH105 - the point of it


def test_an_attached_reranker_follows_the_file(path, reranker):
    policy = PolicyFile(path)
    policy.attach(reranker)
    assert shown(reranker) == {"milk-1", "never-seen"}
    replace(path, HIDE_MILK)
    policy.reload_if_changed()
    assert shown(reranker) == {"dog-1", "never-seen"}
    assert reranker.policy is not None
    assert reranker.policy.version == policy.version == read_policy(path).version


def test_an_unchanged_file_is_not_read_again(path, reranker):
    policy = PolicyFile(path)
    policy.attach(reranker)
    before = reranker.policy
    policy.reload_if_changed()
    assert reranker.policy is before


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[[hide", "want TOML"),
        ('[[hide]]\nname = "h"\ncategories = ["diary"]', r"'diary', .*nearest: dairy"),
        (None, "No such file or directory, want a policy file"),
        (b"\xff", "want UTF-8"),
        (" " * (MAX_BYTES + 1), f"got more than {MAX_BYTES} bytes"),
    ],
)
def test_a_bad_file_is_named_in_the_log_and_the_old_rules_serve_on(
    path, reranker, caplog, text, reason
):
    policy = PolicyFile(path)
    policy.attach(reranker)
    version = policy.version
    if text is None:
        path.unlink()
    elif isinstance(text, bytes):
        path.write_bytes(text)
    else:
        replace(path, text)
    with caplog.at_level(logging.INFO, "rerank_server"):
        policy.reload_if_changed()
        policy.reload_if_changed()
    assert [record.message for record in caplog.records] == [
        "policy refused, the rules before it stay in use"
    ]
    fields = caplog.records[0].fields
    assert re.search(reason, fields["reason"])
    assert fields["policy_version"] == policy.version == version
    assert shown(reranker) == {"milk-1", "never-seen"}
    replace(path, HIDE_MILK)
    policy.reload_if_changed()
    assert shown(reranker) == {"dog-1", "never-seen"}


def test_rules_are_in_use_everywhere_or_nowhere(path, reranker):
    class Refusing:
        policy = None
        refuses = False

        def compile_policy(self, rules):
            if self.refuses:
                raise PolicyError("got a rule, want none")
            return reranker.compile_policy(rules)

    policy = PolicyFile(path)
    other = Refusing()
    policy.attach(reranker)
    policy.attach(other)
    other.refuses = True
    replace(path, HIDE_MILK)
    assert not policy.reload()
    assert shown(reranker) == {"milk-1", "never-seen"}
    other.refuses = False
    assert policy.reload()
    assert other.policy is not None
    assert other.policy.version == policy.version


def test_a_bad_file_at_the_start_is_an_error(path):
    path.write_text("[[pin", encoding="utf-8")
    with pytest.raises(PolicyError, match=r"policy.toml: policy: got .*, want TOML"):
        PolicyFile(path)


def test_a_reranker_that_is_gone_is_not_held(path, tiny_reranker):
    policy = PolicyFile(path)

    class Ruled:
        policy = None

        def compile_policy(self, rules):
            return tiny_reranker.compile_policy(rules)

    policy.attach(Ruled())
    assert len(policy._attached) == 0


async def test_the_file_is_watched_and_read_at_once_when_asked(path, reranker):
    policy = PolicyFile(path)
    policy.attach(reranker)
    asked = asyncio.Event()
    watching = asyncio.create_task(policy.watch(asked, poll_s=0.02))
    try:
        replace(path, HIDE_MILK)
        async with asyncio.timeout(10):
            while "dog-1" not in shown(reranker):
                await asyncio.sleep(0.01)
        watching.cancel()
        watching = asyncio.create_task(policy.watch(asked, poll_s=600))
        replace(path, HIDE_DOG)
        asked.set()
        async with asyncio.timeout(10):
            while "dog-1" in shown(reranker):
                await asyncio.sleep(0.01)
    finally:
        watching.cancel()
