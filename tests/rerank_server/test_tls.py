"""TLS through real connections: who gets in, who does not, and files that change."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
import trustme

from rerank_server.doors import Doors
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.pb.rerank_pb2_grpc import RerankServiceStub
from rerank_server.tls import TlsError, TlsFiles, check_address, is_loopback, server_context
from tests.rerank_server.running import tiny_rerank_server


class Authority:
    """An authority and the files of what it signed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.ca = trustme.CA()
        self.ca_file = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(self.ca_file)

    def issue(self, name: str, *, expired: bool = False) -> tuple[Path, Path]:
        until = datetime.now(UTC) - timedelta(days=1) if expired else None
        issued = self.ca.issue_cert("localhost", not_after=until)
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        return certificate, key


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture
async def tls_port(tiny_reranker):
    """Serve with TLS files; returns the port."""
    servers = []

    async def start(files: TlsFiles) -> int:
        server = tiny_rerank_server(tiny_reranker, doors=Doors(tls=files))
        servers.append(server)
        return await server.start("localhost", 0)

    yield start
    for server in servers:
        await server.stop(timedelta(seconds=1))


async def call(
    port: int, ca_file: Path | None, certificate: tuple[Path, Path] | None = None
) -> str:
    """Make one call; returns OK or the status that came of it."""
    if ca_file is None:
        channel = grpc.aio.insecure_channel(f"localhost:{port}")
    else:
        pem = [path.read_bytes() for path in reversed(certificate)] if certificate else [None, None]
        credentials = grpc.ssl_channel_credentials(ca_file.read_bytes(), *pem)
        channel = grpc.aio.secure_channel(f"localhost:{port}", credentials)
    async with channel:
        try:
            await RerankServiceStub(channel).Rerank(
                pb.RerankRequest(candidate_ids=["a"]), timeout=5
            )
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)
    return "OK"


async def test_tls_lets_in_who_trusts_the_certificate_and_nobody_else(
    tls_port, authority, stranger
):
    port = await tls_port(TlsFiles(*authority.issue("server")))
    assert await call(port, authority.ca_file) == "OK"
    assert await call(port, stranger.ca_file) == "UNAVAILABLE"
    assert await call(port, None) == "UNAVAILABLE"


async def test_an_expired_server_certificate_is_refused_by_the_client(tls_port, authority):
    port = await tls_port(TlsFiles(*authority.issue("old", expired=True)))
    assert await call(port, authority.ca_file) == "UNAVAILABLE"


async def test_mtls_lets_in_only_clients_that_the_authority_signed(tls_port, authority, stranger):
    certificate, key = authority.issue("server")
    port = await tls_port(TlsFiles(certificate, key, authority.ca_file))
    assert await call(port, authority.ca_file, authority.issue("client")) == "OK"
    assert await call(port, authority.ca_file) == "UNAVAILABLE"
    assert await call(port, authority.ca_file, stranger.issue("client")) == "UNAVAILABLE"
    late = authority.issue("late", expired=True)
    assert await call(port, authority.ca_file, late) == "UNAVAILABLE"


async def seen_certificate(port: int) -> str:
    return await asyncio.to_thread(ssl.get_server_certificate, ("localhost", port))


async def test_replaced_files_serve_the_next_connection(tls_port, authority, caplog):
    certificate, key = authority.issue("rotating")
    port = await tls_port(TlsFiles(certificate, key))
    first = await seen_certificate(port)
    assert first.strip() == certificate.read_text().strip()
    authority.issue("rotating")
    second = await seen_certificate(port)
    assert second.strip() == certificate.read_text().strip() != first.strip()
    certificate.write_text("no certificate")
    assert await seen_certificate(port) == second
    assert "the certificate stays as it was" in caplog.text
    assert await call(port, authority.ca_file) == "OK"


def test_files_that_do_not_fit_are_named(authority, stranger, tmp_path):
    certificate, key = authority.issue("server")
    _, other_key = stranger.issue("server")
    nothing = tmp_path / "none.pem"
    nothing.write_text("none")
    with pytest.raises(TlsError, match=r"server\.key: got key values mismatch, want a PEM"):
        server_context(TlsFiles(certificate, other_key))
    with pytest.raises(TlsError, match=r"got No such file or directory, want a PEM"):
        server_context(TlsFiles(tmp_path / "missing", key))
    with pytest.raises(TlsError, match=r"none\.pem and .*got no"):
        server_context(TlsFiles(nothing, key))
    with pytest.raises(TlsError, match=r"none\.pem: got no.*want PEM certificates"):
        server_context(TlsFiles(certificate, key, nothing))


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.3.2.1", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("[::]", False),
        ("", False),
        ("10.0.0.7", False),
        ("search.example.com", False),
    ],
)
def test_only_loopback_is_reached_from_this_machine_alone(host, loopback):
    assert is_loopback(host) is loopback


def test_other_machines_need_tls_or_a_word():
    check_address("host", "127.0.0.1", encrypted=False, insecure_listen=False)
    check_address("host", "0.0.0.0", encrypted=True, insecure_listen=False)
    check_address("host", "0.0.0.0", encrypted=False, insecure_listen=True)
    with pytest.raises(TlsError, match=r"host: got 0\.0\.0\.0, which .*--tls-certificate"):
        check_address("host", "0.0.0.0", encrypted=False, insecure_listen=False)
    with pytest.raises(TlsError, match=r"metrics_host: got 0\.0\.0\.0, .* want a loopback"):
        check_address("metrics_host", "0.0.0.0", encrypted=False, insecure_listen=False)
