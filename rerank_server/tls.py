"""TLS of every door: certificate, key, the authority of clients, and where none is needed."""

from __future__ import annotations

import ipaddress
import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from rerank_server.contract.errors import RerankError

_LOG = logging.getLogger(__name__)


class TlsError(RerankError):
    """A certificate or key that cannot be used, or an address that is not safe without one."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files; replaced ones are read at the next connection.

    Attributes:
        certificate: The server's certificate, with its chain.
        key: Its private key, not encrypted.
        client_ca: Who must have signed the certificate of a client; None asks for none.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches `host`; any name but localhost may be reached."""
    name = host.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check_address(what: str, host: str, *, encrypted: bool, insecure_listen: bool) -> None:
    """Refuse to be reached from other machines in clear text unless told to.

    Raises:
        TlsError: When `host` is not loopback, not encrypted and not allowed.
    """
    if encrypted or insecure_listen or is_loopback(host):
        return
    want = "a loopback address or --insecure-listen true"
    if what == "host":
        want = f"--tls-certificate and --tls-key, {want}"
    raise TlsError(f"{what}: got {host}, which other machines reach in clear text, want {want}")


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Return the files as a context of the `ssl` module, TLS 1.2 or later.

    Raises:
        TlsError: When a file cannot be read, or key and certificate do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # without a password callback an encrypted key would ask the terminal
        context.load_cert_chain(files.certificate, files.key, password=lambda: b"")
    except (OSError, ValueError) as error:
        raise TlsError(
            f"{files.certificate} and {files.key}: got {_reason(error)},"
            " want a PEM certificate and its unencrypted key"
        ) from error
    if files.client_ca is not None:
        try:
            context.load_verify_locations(files.client_ca)
        except (OSError, ValueError) as error:
            raise TlsError(
                f"{files.client_ca}: got {_reason(error)}, want PEM certificates"
            ) from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Return the files as credentials of a gRPC server, read again when they change.

    A broken replacement is logged once and the one before stays in use.

    Raises:
        TlsError: As `server_context`.
    """
    rotation = _Rotation(files)
    return grpc.dynamic_ssl_server_credentials(
        rotation.configuration,
        rotation.replacement,  # type: ignore[arg-type] # None: as before, says its documentation
        require_client_authentication=files.client_ca is not None,
    )


class _Rotation:
    """The certificate in use, and the next one once the files change."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._seen = self._stamps()
        self.configuration = self._read()

    def replacement(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the new certificate, None while nothing changed; gRPC asks per connection."""
        try:
            stamps = self._stamps()
            if stamps == self._seen:
                return None
            self._seen = stamps
            configuration = self._read()
        except (TlsError, OSError):
            _LOG.exception("the certificate stays as it was")
            return None
        _LOG.info("certificate replaced")
        return configuration

    def _stamps(self) -> tuple[tuple[int, int, int], ...]:
        return tuple(_stamp(path) for path in self._paths())

    def _paths(self) -> tuple[Path, ...]:
        paths = (self._files.certificate, self._files.key, self._files.client_ca)
        return tuple(path for path in paths if path is not None)

    def _read(self) -> grpc.ServerCertificateConfiguration:
        server_context(self._files)  # gRPC would not say what is wrong
        ca = self._files.client_ca
        return grpc.ssl_server_certificate_configuration(
            [(self._files.key.read_bytes(), self._files.certificate.read_bytes())],
            root_certificates=None if ca is None else ca.read_bytes(),
        )


def _stamp(path: Path) -> tuple[int, int, int]:
    """Return what changes when a file is replaced; zeros for one that is missing."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0, 0
    return status.st_mtime_ns, status.st_size, status.st_ino


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return str(error.reason or "no PEM").replace("_", " ").lower()
    return getattr(error, "strerror", None) or str(error)
