"""Bearer tokens: who may call, how often, until when; the file holds salted hashes only.

A token is 32 random bytes, so one salted SHA-256 protects it at rest; slow hashes are for
passwords, which people choose.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import time
import tomllib
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from rerank_server.contract.errors import RerankError, nearest
from rerank_server.page import MAX_CANDIDATES

MAX_TOKENS = 1_000
RELOAD_EVERY_S = 1.0
_MAX_TOKEN_BYTES = 512
_MIN_SALT_BYTES = 16
_MAX_RATE = 1e9
HEADER = "authorization"
_SCHEME = "bearer "
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LOG = logging.getLogger(__name__)

# The name of the token of the call that this task answers, set by the doors; empty without one.
CALLER: ContextVar[str] = ContextVar("caller", default="")


class TokenFileError(RerankError):
    """A token file that cannot be read."""


class UnauthenticatedError(RerankError):
    """A call without a token, or with one that does not count."""


class ForbiddenError(RerankError):
    """A call that its token, or having none, does not allow."""


class RateLimitError(RerankError):
    """A call beyond the rate of its token.

    Attributes:
        retry_after_s: When the call would be let in, from now.
    """

    def __init__(self, message: str, retry_after_s: float) -> None:
        """Say what was exceeded and when to try again."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Token:
    """One entry of the token file.

    Attributes:
        name: Who calls with it; in logs and metrics.
        salt: At least 16 random bytes.
        sha256: SHA-256 of the salt followed by the token.
        expires: From when on it is refused; None means never.
        requests_per_s: Calls let in per second, as many at once; None means any number.
        candidates_per_s: Candidates let in per second, at once as many, or one full page; None
            means any number.
        admin: Whether it may change what is served.
    """

    name: str
    salt: bytes
    sha256: bytes
    expires: datetime | None = None
    requests_per_s: float | None = None
    candidates_per_s: float | None = None
    admin: bool = False


class TokenBucket:
    """Lets in `rate` a second, and at most `burst` at once (the token bucket of RFC 2697)."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float]) -> None:
        """Start full."""
        self.rate = rate
        self._burst = burst
        self._clock = clock
        self._level = burst
        self._at = clock()

    def take(self, amount: float) -> float:
        """Take `amount` and return 0, or take nothing and return the seconds until it is there."""
        now = self._clock()
        self._level = min(self._burst, self._level + (now - self._at) * self.rate)
        self._at = now
        if amount <= self._level:
            self._level -= amount
            return 0.0
        return (min(amount, self._burst) - self._level) / self.rate


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, with what is left of the caller's rates.

    Attributes:
        token: The entry of the file.
        requests: None without a limit.
        candidates: None without a limit.
    """

    token: Token
    requests: TokenBucket | None
    candidates: TokenBucket | None

    def check_admin(self) -> None:
        """Refuse to change what is served.

        Raises:
            ForbiddenError: Without the right to.
        """
        if not self.token.admin:
            raise ForbiddenError(
                f"admin: got the token of {self.token.name}, want one with `admin = true`"
            )

    def admit_candidates(self, count: int) -> None:
        """Count the candidates of one page.

        Raises:
            RateLimitError: When they are beyond the rate.
        """
        _take(self.candidates, count, "candidates", self.token.name)


class TokenGate:
    """Lets calls in by token; reads its file again when it changes, for one event loop."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Read the tokens.

        Args:
            path: The token file.
            clock: Seconds, for rates and for when to look at the file.
            now: Unix seconds, for expiry.

        Raises:
            TokenFileError: When the file cannot be read.
        """
        self._path = path
        self._clock = clock
        self._now = now
        self._key = secrets.token_bytes(32)
        self._callers: dict[str, Caller] = {}
        # tokens that were let in, by a hash with a key that only this process knows
        self._known: dict[bytes, Caller] = {}
        self._stamp = self._file_stamp()
        self._looked_at = clock()
        self._replace(read_tokens(path))

    def admit(self, authorization: str | None) -> Caller:
        """Return who calls, by the value of the `authorization` header.

        Raises:
            UnauthenticatedError: When the token is missing, unknown or expired.
            RateLimitError: When the call is beyond the token's rate.
        """
        self._look_at_file()
        if not authorization or authorization[: len(_SCHEME)].lower() != _SCHEME:
            raise UnauthenticatedError(
                "authorization: got no bearer token, want `authorization: Bearer TOKEN`"
            )
        secret = authorization[len(_SCHEME) :].strip().encode(errors="surrogateescape")
        caller = self._find(secret)
        if caller is None:
            raise UnauthenticatedError("authorization: got an unknown token, want a known one")
        expires = caller.token.expires
        if expires is not None and self._now() >= expires.timestamp():
            raise UnauthenticatedError(
                f"authorization: got a token that expired at {expires.isoformat()}, want a new one"
            )
        _take(caller.requests, 1, "calls", caller.token.name)
        return caller

    def _find(self, secret: bytes) -> Caller | None:
        if not secret or len(secret) > _MAX_TOKEN_BYTES:
            return None
        digest = hashlib.blake2b(secret, key=self._key, digest_size=32).digest()
        known = self._known.get(digest)
        if known is not None:
            return known
        found = None
        for caller in self._callers.values():  # all of them: the time tells nothing
            hashed = hashlib.sha256(caller.token.salt + secret).digest()
            if hmac.compare_digest(hashed, caller.token.sha256):
                found = caller
        if found is not None:
            self._known[digest] = found
        return found

    def _look_at_file(self) -> None:
        now = self._clock()
        if now - self._looked_at < RELOAD_EVERY_S:
            return
        self._looked_at = now
        stamp = self._file_stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            tokens = read_tokens(self._path)
        except TokenFileError as error:
            fields = {"reason": str(error)}
            _LOG.error("the tokens stay as they were", extra={"fields": fields})
            return
        self._replace(tokens)
        _LOG.info("tokens replaced", extra={"fields": {"tokens": len(tokens)}})

    def _replace(self, tokens: tuple[Token, ...]) -> None:
        """Take new tokens; one whose rates stay as they were keeps what is left of them."""
        before = self._callers
        self._callers = {}
        self._known = {}
        for token in tokens:
            old = before.get(token.name)
            self._callers[token.name] = Caller(
                token,
                self._bucket(token.requests_per_s, 1, old.requests if old else None),
                self._bucket(
                    token.candidates_per_s, MAX_CANDIDATES, old.candidates if old else None
                ),
            )

    def _bucket(
        self, rate: float | None, least: float, old: TokenBucket | None
    ) -> TokenBucket | None:
        if rate is None:
            return None
        if old is not None and old.rate == rate:
            return old
        return TokenBucket(rate, max(rate, least), self._clock)

    def _file_stamp(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


def new_token(name: str) -> tuple[str, str]:
    """Return a new random token, to give away once, and its entry for the token file.

    Raises:
        TokenFileError: When `name` cannot be a name.
    """
    _check_name(name, "name")
    secret = "crossrank_" + secrets.token_urlsafe(32)
    salt = secrets.token_bytes(_MIN_SALT_BYTES)
    digest = hashlib.sha256(salt + secret.encode()).hexdigest()
    return secret, f'[[token]]\nname = "{name}"\nsalt = "{salt.hex()}"\nsha256 = "{digest}"\n'


def read_tokens(path: Path) -> tuple[Token, ...]:
    """Read a token file: TOML with one `[[token]]` table per token, its keys as in `Token`.

    Raises:
        TokenFileError: When the file cannot be read, or a key is unknown, missing or wrong; no
            message holds a salt or a hash.
    """
    try:
        value = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TokenFileError(
            f"{path}: got {error.strerror or error}, want a readable token file"
        ) from error
    except ValueError as error:
        raise TokenFileError(f"{path}: got {error}, want TOML") from error
    entries = value.get("token", [])
    if set(value) - {"token"} or not isinstance(entries, list):
        raise TokenFileError(f"{path}: got keys {sorted(value)}, want [[token]] tables only")
    if not 1 <= len(entries) <= MAX_TOKENS:
        raise TokenFileError(f"{path}: got {len(entries)} tokens, want 1 to {MAX_TOKENS}")
    tokens = tuple(
        _read_token(entry, f"{path}: token {number}") for number, entry in enumerate(entries, 1)
    )
    names = [token.name for token in tokens]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise TokenFileError(f"{path}: got token {twice!r} twice, want each name once")
    return tokens


def _read_token(entry: Mapping[str, Any], where: str) -> Token:
    known = [item.name for item in fields(Token)]
    for key in entry:
        if key not in known:
            raise TokenFileError(
                f"{where}: got key {key!r}, want some of {', '.join(known)}{nearest(key, known)}"
            )
    name = entry.get("name")
    _check_name(name, f"{where}: name")
    expires = entry.get("expires")
    if expires is not None and (not isinstance(expires, datetime) or expires.tzinfo is None):
        raise TokenFileError(
            f"{where}: expires: got {expires}, want a time with its zone: 2027-01-01T00:00:00Z"
        )
    return Token(
        name=str(name),
        salt=_hexadecimal(entry, "salt", where, least=_MIN_SALT_BYTES),
        sha256=_hexadecimal(entry, "sha256", where, least=32, most=32),
        expires=expires,
        requests_per_s=_rate(entry, "requests_per_s", where),
        candidates_per_s=_rate(entry, "candidates_per_s", where),
        admin=_flag(entry, "admin", where),
    )


def _check_name(name: object, what: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise TokenFileError(f"{what}: got {name!r}, want 1 to 64 of letters, digits, . _ -")


def _hexadecimal(
    entry: Mapping[str, Any], key: str, where: str, *, least: int, most: int = 64
) -> bytes:
    want = f"want {2 * least} or more" if most > least else f"want {2 * least}"
    try:
        value = bytes.fromhex(entry[key])
    except (KeyError, TypeError, ValueError):
        raise TokenFileError(f"{where}: {key}: got none, {want} hexadecimal digits") from None
    if not least <= len(value) <= most:
        raise TokenFileError(f"{where}: {key}: got {2 * len(value)}, {want} hexadecimal digits")
    return value


def _rate(entry: Mapping[str, Any], key: str, where: str) -> float | None:
    value = entry.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _MAX_RATE:
        raise TokenFileError(f"{where}: {key}: got {value!r}, want a number above 0")
    return float(value)


def _flag(entry: Mapping[str, Any], key: str, where: str) -> bool:
    value = entry.get(key, False)
    if not isinstance(value, bool):
        raise TokenFileError(f"{where}: {key}: got {value!r}, want true or false")
    return value


def _take(bucket: TokenBucket | None, amount: int, what: str, name: str) -> None:
    if bucket is None:
        return
    wait_s = bucket.take(amount)
    if wait_s > 0:
        raise RateLimitError(
            f"{what} of {name}: got more than {bucket.rate:g} a second, want fewer;"
            f" try again in {wait_s:.3g} s",
            wait_s,
        )
