"""Tokens: what the file may say, who gets in, how often, and files that change."""

from __future__ import annotations

import logging

import pytest

from rerank_server.tokens import (
    MAX_TOKENS,
    RELOAD_EVERY_S,
    ForbiddenError,
    RateLimitError,
    TokenBucket,
    TokenFileError,
    TokenGate,
    UnauthenticatedError,
    new_token,
    read_tokens,
)
from tests.rerank_server.token_files import write_tokens


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def bearer(secret: str) -> str:
    return f"Bearer {secret}"


def test_a_known_token_says_who_calls(tmp_path, clock):
    path = tmp_path / "tokens.toml"
    shop, batch = write_tokens(path, "shop", "batch")
    gate = TokenGate(path, clock=clock)
    for _ in range(2):  # hashed, then remembered
        assert gate.admit(bearer(shop)).token.name == "shop"
        assert gate.admit(f"bearer  {batch} ").token.name == "batch"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "got no bearer token"),
        ("", "got no bearer token"),
        ("Basic c2hvcDp4", "got no bearer token"),
        ("Bearer", "got no bearer token"),
        ("Bearer ", "got an unknown token"),
        ("Bearer wrong", "got an unknown token"),
        ("Bearer \udcff", "got an unknown token"),
        ("Bearer " + "x" * 10_000, "got an unknown token"),
    ],
)
def test_no_token_or_a_wrong_one_is_refused_and_not_repeated(tmp_path, header, message):
    path = tmp_path / "tokens.toml"
    write_tokens(path, "shop")
    with pytest.raises(UnauthenticatedError, match=message) as caught:
        TokenGate(path).admit(header)
    assert "wrong" not in str(caught.value)


def test_a_token_is_refused_from_the_moment_it_expires(tmp_path, clock):
    path = tmp_path / "tokens.toml"
    (secret,) = write_tokens(path, "shop", more="expires = 2026-01-01T00:00:00Z\n")
    now = Clock()
    gate = TokenGate(path, clock=clock, now=now)
    now.now = 1_767_225_599.9  # 2026-01-01T00:00:00Z is 1767225600
    assert gate.admit(bearer(secret)).token.name == "shop"
    now.now = 1_767_225_600.0
    with pytest.raises(UnauthenticatedError, match="expired at 2026-01-01T00:00:00"):
        gate.admit(bearer(secret))


def test_a_bucket_fills_at_its_rate_up_to_its_burst(clock):
    bucket = TokenBucket(2.0, 4.0, clock)
    assert [bucket.take(1) for _ in range(4)] == [0, 0, 0, 0]
    assert bucket.take(1) == 0.5  # one at two a second
    clock.now += 0.5
    assert bucket.take(1) == 0
    clock.now += 60
    assert bucket.take(4) == 0
    assert bucket.take(4) == 2.0
    clock.now += 2
    assert bucket.take(4) == 0


def test_calls_beyond_the_rate_are_refused_with_the_time_to_wait(tmp_path, clock):
    path = tmp_path / "tokens.toml"
    (secret,) = write_tokens(path, "shop", more="requests_per_s = 2\n")
    gate = TokenGate(path, clock=clock)
    gate.admit(bearer(secret))
    gate.admit(bearer(secret))
    with pytest.raises(RateLimitError, match=r"calls of shop: got more than 2 a second") as caught:
        gate.admit(bearer(secret))
    assert caught.value.retry_after_s == 0.5
    clock.now += 0.5
    gate.admit(bearer(secret))


def test_a_full_page_passes_however_low_the_rate_of_candidates(tmp_path, clock):
    path = tmp_path / "tokens.toml"
    (secret,) = write_tokens(path, "shop", more="candidates_per_s = 100\n")
    caller = TokenGate(path, clock=clock).admit(bearer(secret))
    caller.admit_candidates(1_000)
    with pytest.raises(RateLimitError, match="candidates of shop: got more than 100 a second"):
        caller.admit_candidates(50)
    clock.now += 0.5
    caller.admit_candidates(50)


def test_only_an_admin_token_may_change_what_is_served(tmp_path):
    path = tmp_path / "tokens.toml"
    (secret,) = write_tokens(path, "shop")
    with pytest.raises(ForbiddenError, match="got the token of shop, want one with `admin = true`"):
        TokenGate(path).admit(bearer(secret)).check_admin()
    (secret,) = write_tokens(path, "operator", more="admin = true\n")
    TokenGate(path).admit(bearer(secret)).check_admin()


def test_a_changed_file_counts_within_a_second(tmp_path, clock):
    path = tmp_path / "tokens.toml"
    (old,) = write_tokens(path, "shop")
    gate = TokenGate(path, clock=clock)
    gate.admit(bearer(old))
    (new,) = write_tokens(path, "shop")
    gate.admit(bearer(old))
    clock.now += RELOAD_EVERY_S
    assert gate.admit(bearer(new)).token.name == "shop"
    with pytest.raises(UnauthenticatedError):
        gate.admit(bearer(old))


@pytest.mark.parametrize("change", ["broken", "gone"])
def test_a_broken_or_missing_file_leaves_the_tokens_as_they_were(tmp_path, clock, caplog, change):
    path = tmp_path / "tokens.toml"
    (secret,) = write_tokens(path, "shop")
    gate = TokenGate(path, clock=clock)
    if change == "gone":
        path.unlink()
    else:
        path.write_text("[[token]")
    for _ in range(3):
        clock.now += RELOAD_EVERY_S
        assert gate.admit(bearer(secret)).token.name == "shop"
    said = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.message for record in said] == ["the tokens stay as they were"]


def test_a_reload_gives_no_caller_a_new_allowance(tmp_path, clock):
    path = tmp_path / "tokens.toml"
    (secret,) = write_tokens(path, "shop", more="requests_per_s = 1\n")
    gate = TokenGate(path, clock=clock)
    clock.now += RELOAD_EVERY_S
    gate.admit(bearer(secret))
    path.write_text(path.read_text() + "# changed\n")
    gate._looked_at -= RELOAD_EVERY_S
    with pytest.raises(RateLimitError):
        gate.admit(bearer(secret))


GOOD = 'name = "shop"\nsalt = "' + "00" * 16 + '"\nsha256 = "' + "11" * 32 + '"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"got 0 tokens, want 1 to 1000"),
        ("[[token]", r"want TOML"),
        ("tokens = 1\n", r"got keys \['tokens'\], want \[\[token\]\] tables only"),
        ("token = 1\n", r"want \[\[token\]\] tables only"),
        ("[[token]]\n" + GOOD + "expiers = 1\n", r"token 1: got key 'expiers'.*nearest: expires"),
        ("[[token]]\n" + GOOD.replace("shop", "a b"), r"name: got 'a b', want 1 to 64"),
        ("[[token]]\n" + GOOD.replace("00" * 16, "00"), r"salt: got 2, want 32 or more hexa"),
        ("[[token]]\n" + GOOD.replace("11" * 32, "zz"), r"sha256: got none, want 64 hexa"),
        ("[[token]]\n" + GOOD + "expires = 2026-01-01\n", r"want a time with its zone"),
        ("[[token]]\n" + GOOD + "expires = 2026-01-01T00:00:00\n", r"want a time with its zone"),
        ("[[token]]\n" + GOOD + "requests_per_s = 0\n", r"requests_per_s: got 0, want a number"),
        ("[[token]]\n" + GOOD + "candidates_per_s = nan\n", r"candidates_per_s: got nan, want"),
        ("[[token]]\n" + GOOD + 'admin = "yes"\n', r"admin: got 'yes', want true or false"),
        (("[[token]]\n" + GOOD) * 2, r"got token 'shop' twice, want each name once"),
        (("[[token]]\n" + GOOD) * (MAX_TOKENS + 1), r"got 1001 tokens"),
    ],
)
def test_a_wrong_file_is_named_without_its_hashes(tmp_path, text, message):
    path = tmp_path / "tokens.toml"
    path.write_text(text)
    with pytest.raises(TokenFileError, match=message) as caught:
        read_tokens(path)
    assert "1111" not in str(caught.value)


def test_a_new_token_is_random_and_its_entry_does_not_hold_it(tmp_path):
    first, entry = new_token("shop")
    second, _ = new_token("shop")
    assert first != second
    assert len(first) > 40
    assert first not in entry
    assert first.removeprefix("crossrank_") not in entry
    with pytest.raises(TokenFileError, match="name: got 'a\\\\nb'"):
        new_token("a\nb")
