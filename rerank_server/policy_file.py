"""A policy file on disk: read at the start, and again when it changes, off the request path."""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from pathlib import Path
from typing import Protocol

from rerank_server.policy import Policy
from rerank_server.policy_parse import parse_policy
from rerank_server.policy_rules import PolicyError, PolicyRules

MAX_BYTES = 4 * 1024 * 1024
POLL_S = 1.0
_LOG = logging.getLogger(__name__)


def read_policy(path: Path) -> PolicyRules:
    """Read and check a policy file.

    Raises:
        PolicyError: When it cannot be read, or `parse_policy` refuses it.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PolicyError(f"{path}: got {error.strerror or error}, want a policy file") from error
    if len(content) > MAX_BYTES:
        raise PolicyError(f"{path}: got more than {MAX_BYTES} bytes, want fewer")
    try:
        return parse_policy(content.decode())
    except UnicodeDecodeError as error:
        raise PolicyError(f"{path}: got {error}, want UTF-8") from error
    except PolicyError as error:
        raise PolicyError(f"{path}: {error}") from error


class Ruled(Protocol):
    """What a policy can be in use by: a reranker."""

    policy: Policy | None

    def compile_policy(self, rules: PolicyRules) -> Policy:
        """Return the policy that the rules are for it."""
        ...


class PolicyFile:
    """The policy of one file, in use by every reranker attached; may be shared by threads."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            PolicyError: When it is bad.
        """
        self.path = Path(path)
        self._lock = threading.Lock()
        self._attached: weakref.WeakSet[Ruled] = weakref.WeakSet()
        self._seen = self._state()
        self._rules = read_policy(self.path)

    @property
    def version(self) -> str:
        """The version of the rules in use."""
        return self._rules.version

    def attach(self, ruled: Ruled) -> None:
        """Put the policy in use there, now and whenever it changes while `ruled` lives.

        Raises:
            PolicyError: When a rule names what its bundle does not know.
        """
        with self._lock:
            ruled.policy = ruled.compile_policy(self._rules)
            self._attached.add(ruled)

    def load(self) -> None:
        """Read the file again and put its rules in use everywhere, or nowhere.

        Raises:
            PolicyError: When it is bad; the rules before it stay in use.
        """
        with self._lock:
            self._seen = self._state()
            rules = read_policy(self.path)
            compiled = [(ruled, ruled.compile_policy(rules)) for ruled in self._attached]
            for ruled, policy in compiled:
                ruled.policy = policy
            self._rules = rules
        _LOG.info(
            "policy in use",
            extra={"fields": {"policy_version": rules.version, "rules": rules.size}},
        )

    def reload(self) -> bool:
        """Load and return whether the file is good; a bad one is named in the log."""
        try:
            self.load()
        except PolicyError as error:
            self._log_refused(str(error))
        except Exception as error:  # noqa: BLE001 - whatever is wrong, the old rules serve on
            _LOG.debug("reading the policy failed", exc_info=True)
            self._log_refused(f"{self.path}: got {type(error).__name__}, want a policy file")
        else:
            return True
        return False

    def reload_if_changed(self) -> None:
        """Reload when the file's time, size or identity differs from the last reading."""
        if self._state() != self._seen:
            self.reload()

    async def watch(self, asked: asyncio.Event, poll_s: float = POLL_S) -> None:
        """Reload when the file changes, or at once when `asked`; in a thread, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(poll_s):
                    await asked.wait()
            except TimeoutError:
                await asyncio.to_thread(self.reload_if_changed)
            else:
                asked.clear()
                await asyncio.to_thread(self.reload)

    def _state(self) -> tuple[int, ...]:
        """Return what tells one state of the file from another; empty when there is none."""
        try:
            stat = self.path.stat()
        except OSError:
            return ()
        return (stat.st_mtime_ns, stat.st_size, stat.st_ino)

    def _log_refused(self, reason: str) -> None:
        _LOG.error(
            "policy refused, the rules before it stay in use",
            extra={"fields": {"reason": reason, "policy_version": self.version}},
        )
