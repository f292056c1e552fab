"""The committed protobuf code is what `make proto` writes from `proto/`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rerank_server.pb import rerank_pb2

ROOT = Path(__file__).resolve().parent.parent
GENERATED = {
    f"{proto}_{kind}"
    for proto in ("admin", "rerank")
    for kind in ("pb2.py", "pb2.pyi", "pb2_grpc.py", "pb2_grpc.pyi")
}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with newly generated code."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("make: not found on the path, want it to generate the protobuf code")
    out = tmp_path_factory.mktemp("generated")
    command = [make, "generate", f"PY={sys.executable}", f"PROTO_OUT={out}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out / "rerank_server" / "pb"


def test_the_same_files_are_generated(fresh: Path) -> None:
    committed = {path.name for path in (ROOT / "rerank_server/pb").glob("*_pb2*.py*")}
    assert {path.name for path in fresh.iterdir()} == GENERATED == committed


@pytest.mark.parametrize("name", sorted(GENERATED))
def test_the_committed_code_is_current(fresh: Path, name: str) -> None:
    committed = (ROOT / "rerank_server/pb" / name).read_text("utf-8")
    assert committed == (fresh / name).read_text("utf-8"), "run `make proto`"


def test_the_package_on_the_wire_is_versioned() -> None:
    assert rerank_pb2.DESCRIPTOR.package == "rerank.v1"
