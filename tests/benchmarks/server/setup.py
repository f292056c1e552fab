"""The peers: how each is installed and started."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent / "peers"
ROOT = Path(__file__).resolve().parents[3]
PLACE = ROOT / "var" / "benchmark" / "peers"
_START_S = 60.0
_V2 = "/inference.GRPCInferenceService/ModelInfer"


class MissingPeerError(Exception):
    """A peer that cannot be installed or does not start; says why."""


@dataclass(frozen=True)
class Peer:
    """A server to compare with.

    Attributes:
        name: In the result.
        packages: To install into its environment; none takes ours.
        script: Under `peers/`.
        method: Of gRPC; empty for HTTP, or for any.
        v2: Kind of tensor of the V2 protocol that carries a page; empty without it.
        http: Path of HTTP; empty for gRPC.
        features: Whether it takes our requests and does all that our server does with a page.
    """

    name: str
    packages: tuple[str, ...]
    script: str
    method: str = ""
    v2: str = ""
    http: str = ""
    features: bool = False


PEERS = (
    Peer("plain grpcio with our features", (), "features_peer.py", features=True),
    Peer("plain grpcio", (), "grpc_peer.py"),
    Peer("Triton (PyTriton)", ("nvidia-pytriton==0.7.0",), "pytriton_peer.py", _V2, "UINT8"),
    Peer("MLServer", ("mlserver==1.7.1",), "mlserver_peer.py", _V2, "BYTES"),
    Peer("BentoML", ("bentoml==1.4.40",), "bentoml_peer.py", http="/score"),
)

# Its jar is in no package registry: Maven has no artifact of it, and nothing else could be asked.
METARANK = {"Metarank": "not installed: got no artifact ai.metarank:metarank_2.13:0.7.11 in Maven"}


def environment(peer: Peer) -> Path:
    """Install a peer and return its Python.

    Raises:
        MissingPeerError: When it cannot be installed.
    """
    if not peer.packages:
        return Path(sys.executable)
    folder = PLACE / peer.script.removesuffix("_peer.py")
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        packages = [*peer.packages, f"onnxruntime=={version('onnxruntime')}", "numpy"]
        commands = (
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            [str(python), "-m", "pip", "install", "--quiet", *packages],
        )
        for command in commands:
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                raise MissingPeerError(f"not installed: {_last_line(done.stderr)}")
        (folder / "installed").touch()
    return python


@contextmanager
def peer_running(peer: Peer, bundle: Path, products: Path) -> Generator[str]:
    """Install and start a peer, and yield its address.

    Raises:
        MissingPeerError: When it cannot be installed or does not listen.
    """
    python, port = environment(peer), _free_port()
    scorer = str((bundle / "scorer.onnx").resolve())
    given = [str(bundle), str(products)] if peer.features else [scorer]
    command = [str(python), str(HERE / peer.script), *given, str(port)]
    path = f"{HERE}:{ROOT}" if peer.features else str(HERE)
    variables = os.environ | {"PYTHONPATH": path, "CROSSRANK_SCORER": scorer}
    variables |= {"BENTOML_DO_NOT_TRACK": "true"}
    if peer.http:
        command = [str(python.parent / "bentoml"), "serve", f"{peer.script[:-3]}:Scorer"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--working-dir", str(HERE)]
    PLACE.mkdir(parents=True, exist_ok=True)
    with log_of(peer).open("w+") as log:
        process = subprocess.Popen(
            command, env=variables, stdout=log, stderr=log, start_new_session=True
        )
        try:
            _wait_for_port(process, port, log)
            yield f"127.0.0.1:{port}"
        finally:
            _stop(process)


def v2_requests(pages: Path, kind: str) -> Path:
    """Return a file of V2 requests made of packed pages, by MLServer's own messages."""
    out = pages.with_suffix(".v2")
    python = environment(next(peer for peer in PEERS if peer.name == "MLServer"))
    command = [str(python), str(HERE / "v2_requests.py"), str(pages), str(out), kind]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise MissingPeerError(f"no V2 requests: {_last_line(done.stderr)}")
    return out


def log_of(peer: Peer) -> Path:
    """Return the file of what a peer prints."""
    return PLACE / f"{peer.script.removesuffix('.py')}.log"


def last_error(peer: Peer) -> str:
    """Return the last line of a peer's log that names an error."""
    lines = log_of(peer).read_text(errors="replace").splitlines()
    errors = [line.strip() for line in lines if "Error" in line]
    return _last_line("\n".join(errors))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _wait_for_port(process: subprocess.Popen[bytes], port: int, log: object) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            time.sleep(2)  # its model is still being loaded
            return
    log.seek(0)  # type: ignore[attr-defined]
    raise MissingPeerError(f"did not start: {_last_line(log.read())}")  # type: ignore[attr-defined]


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number in (15, 9):
        try:
            os.killpg(process.pid, number)
            process.wait(10)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
    process.wait(10)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "nothing said"
