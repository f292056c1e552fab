"""How a client reaches a server: address, TLS, token, deadline, and what it may try twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from rerank_server.contract.errors import RerankError
from rerank_server.tls import is_loopback

DEFAULT_ADDRESS = "localhost:50061"
MAX_TIMEOUT_MS = 600_000
_MAX_MESSAGE_BYTES = 16 * 1024 * 1024
_MAX_ATTEMPTS = 5  # gRPC's own limit


class ServerAddressError(RerankError):
    """A way to a server that cannot be used."""


@dataclass(frozen=True, slots=True)
class ClientTls:
    """PEM files of a client.

    Attributes:
        ca: Who must have signed the server's certificate; None means the authorities that gRPC
            trusts.
        certificate: The client's own certificate with its chain, for a server that asks for one.
        key: Its private key.
        server_name: The name in the server's certificate, where it is not that of the address.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class Connection:
    """One server, or several behind one name.

    Attributes:
        address: host:port, or any target of gRPC: `dns:///rerank:50061` shares calls between all
            addresses of a name, `ipv4:10.0.0.1:50061,10.0.0.2:50061` between those listed.
        timeout_ms: Longest time for one page, tries and network included.
        attempts: How often a page is sent at most while the server cannot be reached. Reranking
            changes nothing, so sending a page twice is safe; admin calls are sent once.
        tls: Files for TLS; None connects in clear text.
        token: Bearer token; empty sends none.
        insecure_token: Whether the token may travel in clear text to another machine.
    """

    address: str = DEFAULT_ADDRESS
    timeout_ms: int = 200
    attempts: int = 2
    tls: ClientTls | None = None
    token: str = field(default="", repr=False)
    insecure_token: bool = False

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ServerAddressError: When one is broken.
        """
        if not self.address.strip():
            raise ServerAddressError("address: got none, want host:port")
        if not 1 <= self.timeout_ms <= MAX_TIMEOUT_MS:
            raise ServerAddressError(
                f"timeout_ms: got {self.timeout_ms}, want 1 to {MAX_TIMEOUT_MS}"
            )
        if not 1 <= self.attempts <= _MAX_ATTEMPTS:
            raise ServerAddressError(f"attempts: got {self.attempts}, want 1 to {_MAX_ATTEMPTS}")
        if self.token and not (self.token.isascii() and self.token.isprintable()):
            raise ServerAddressError(
                "token: got characters that no header holds, want printable ASCII"
            )
        if self.token and self.tls is None and not self.insecure_token:
            far = [host for host in _hosts(self.address) if not is_loopback(host)]
            if far:
                raise ServerAddressError(
                    f"token: got one for {far[0]} in clear text, want TLS, or insecure_token where"
                    " something else encrypts the way"
                )

    @property
    def timeout_s(self) -> float:
        """The same in seconds."""
        return self.timeout_ms / 1_000

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the headers of every call."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def options(self) -> list[tuple[str, Any]]:
        """Return gRPC's options of a channel."""
        options: list[tuple[str, Any]] = [
            ("grpc.service_config", json.dumps(_service_config(self.attempts))),
            ("grpc.enable_retries", 1),
            ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            # a server that was restarted is found again within a second
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
            ("grpc.enable_http_proxy", 0),
            # a channel of its own, so that closing or options of one client reach no other
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if self.tls is not None and self.tls.server_name:
            options.append(("grpc.ssl_target_name_override", self.tls.server_name))
        return options

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Return what TLS needs; None for clear text.

        Raises:
            ServerAddressError: When a file cannot be read, or a certificate has no key.
        """
        if self.tls is None:
            return None
        if (self.tls.certificate is None) != (self.tls.key is None):
            raise ServerAddressError("certificate and key: got one of them, want both or none")
        return grpc.ssl_channel_credentials(
            root_certificates=_read_pem(self.tls.ca),
            private_key=_read_pem(self.tls.key),
            certificate_chain=_read_pem(self.tls.certificate),
        )


def _service_config(attempts: int) -> dict[str, Any]:
    """Return which calls gRPC may send again, and when.

    Only the rerank service, which changes nothing, and only when the server could not be reached
    or went away without an answer. A client that fails often stops sending twice, so that retries
    never make an overload worse.
    """
    reranking: dict[str, Any] = {"name": [{"service": "rerank.v1.RerankService"}]}
    if attempts > 1:
        reranking["retryPolicy"] = {
            "maxAttempts": attempts,
            "initialBackoff": "0.005s",
            "maxBackoff": "0.05s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        }
    return {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [reranking],
        "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
    }


def _hosts(address: str) -> Sequence[str]:
    """Return the hosts of a gRPC target; none for a socket of this machine."""
    scheme, colon, rest = address.partition(":")
    if colon and scheme in {"unix", "unix-abstract"}:
        return ()
    if colon and scheme in {"dns", "ipv4", "ipv6"}:
        address = rest.rpartition("/")[2]
    return [part.rpartition(":")[0] or part for part in address.split(",")]


def _read_pem(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise ServerAddressError(
            f"{path}: got {error.strerror or error}, want a readable PEM file"
        ) from error
