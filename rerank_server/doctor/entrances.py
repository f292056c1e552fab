"""Checks of how callers come in: addresses, ports, TLS, tokens and other secrets."""

from __future__ import annotations

import socket
import ssl
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rerank_server.access_log import read_shopper_key
from rerank_server.contract.errors import RerankError
from rerank_server.doctor.finding import Finding, broken, good, warning
from rerank_server.settings import Settings
from rerank_server.tls import TlsError, TlsFiles, check_address, server_context
from rerank_server.tokens import read_tokens

_SOON = timedelta(days=14)


def check_entrances(settings: Settings, now: datetime) -> Iterator[Finding]:
    """Check everything that stands between callers and the service."""
    yield from _check_ports(settings)
    if settings.tls_certificate is not None and settings.tls_key is not None:
        files = TlsFiles(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
        yield from _check_tls(files, now)
        yield from _check_secret("TLS key", files.key)
    if settings.tokens is not None:
        yield from _check_tokens(settings.tokens, now)
        yield from _check_secret("tokens", settings.tokens)
    if settings.shopper_key is not None:
        yield from _check_shopper_key(settings.shopper_key)
        yield from _check_secret("shopper key", settings.shopper_key)


def _check_ports(settings: Settings) -> Iterator[Finding]:
    encrypted = settings.tls_key is not None
    ports = [("host", settings.host, settings.port, encrypted)]
    if settings.http_port >= 0:
        ports.append(("host", settings.host, settings.http_port, encrypted))
    if settings.metrics_port >= 0:
        ports.append(("metrics_host", settings.metrics_host, settings.metrics_port, False))
    taken: set[tuple[str, int]] = set()
    for name, host, port, secret in ports:
        try:
            check_address(name, host, encrypted=secret, insecure_listen=settings.insecure_listen)
        except TlsError as error:
            yield broken("address", str(error), "see `Doors` in the server's README")
            continue
        if port and (host, port) in taken:
            advice = "give each of --port, --http-port and --metrics-port another number"
            yield broken("port", f"{host}:{port}: got it for two doors, want one", advice)
            continue
        taken.add((host, port))
        yield _check_port(host, port)


def _check_port(host: str, port: int) -> Finding:
    name = host.strip("[]")
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    try:
        with socket.create_server((name, port), family=family):
            return good("port", f"{host}:{port} is free")
    except OSError as error:
        if isinstance(error, PermissionError):
            advice = "take a port above 1023, or give the process the right to this one"
        elif isinstance(error, socket.gaierror) or error.errno not in _TAKEN:
            advice = "name an address of this machine by --host, 127.0.0.1 for example"
        else:
            advice = (
                f"stop what listens there (`ss -ltnp 'sport = :{port}'` names it), or take another"
                " port; if it is a server that is to be replaced, this is no fault"
            )
        found = f"{host}:{port}: got {error.strerror or error}, want a free address"
        return broken("port", found, advice)


_TAKEN = {98, 48, 10048}  # EADDRINUSE on Linux, macOS and Windows


def _check_tls(files: TlsFiles, now: datetime) -> Iterator[Finding]:
    try:
        server_context(files)
        until = _valid_until(files)
    except TlsError as error:
        advice = (
            "renew the certificate"
            if "expired" in str(error)
            else (
                "name a certificate and the key it was made with: both give the same"
                " `openssl pkey -pubout`"
            )
        )
        yield broken("TLS", str(error), advice)
        return
    if until <= now:
        found = f"{files.certificate}: got a certificate that ended {until:%Y-%m-%d}, want a valid"
        yield broken("TLS", found, "renew the certificate")
    elif until - now < _SOON:
        found = f"{files.certificate}: got a certificate that ends {until:%Y-%m-%d}"
        yield warning("TLS", found, "renew it soon; a server takes the new files while serving")
    else:
        yield good("TLS", f"{files.certificate} fits its key and is valid until {until:%Y-%m-%d}")


def _valid_until(files: TlsFiles) -> datetime:
    """Return the end of the certificate, by a handshake in memory that trusts it alone.

    Raises:
        TlsError: When a client that trusts the certificate refuses it, having expired for one.
    """
    server = server_context(TlsFiles(files.certificate, files.key))
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(files.certificate)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(back, there)
    far = server.wrap_bio(there, back, server_side=True)
    for _ in range(4):
        for side in (near, far):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                raise TlsError(
                    f"{files.certificate}: got {error.verify_message}, want a valid certificate"
                ) from error
    certificate = near.getpeercert() or {}
    seconds = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    return datetime.fromtimestamp(seconds, UTC)


def _check_tokens(path: Path, now: datetime) -> Iterator[Finding]:
    try:
        tokens = read_tokens(path)
    except RerankError as error:
        yield broken("tokens", str(error), "make an entry with `crossrank token new NAME`")
        return
    late = [token.name for token in tokens if token.expires is not None and token.expires <= now]
    if len(late) == len(tokens):
        found = f"{path}: got expired tokens only, want one that counts"
        yield broken("tokens", found, "make another with `crossrank token new NAME`")
    elif late:
        found = f"{path}: got {len(late)} expired tokens: {', '.join(late[:5])}"
        yield warning("tokens", found, "replace or remove them")
    else:
        yield good("tokens", f"{path}: {len(tokens)} tokens")


def _check_shopper_key(path: Path) -> Iterator[Finding]:
    try:
        read_shopper_key(path)
    except RerankError as error:
        yield broken("shopper key", str(error), f"head -c 32 /dev/urandom > {path}")


def _check_secret(check: str, path: Path) -> Iterator[Finding]:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return  # named by the check that reads it
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        found = f"{path}: got mode {mode:o}, want a file that others cannot read"
        yield broken(check, found, f"chmod 600 {path}, and replace what others may have read")
