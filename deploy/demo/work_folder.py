"""The demo's work folder: where things lie in it, what is finished, one demo at a time."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import trainer
from deploy.demo.errors import WorkFolderError
from trainer.atomic_text import write_text

# What data, pages, network and index take together, measured, and some to spare.
ROOM_BYTES = 3 * 1024**3


@dataclass(frozen=True, slots=True)
class Finished:
    """What the steps up to the product store have left, written when all of it is there.

    Attributes:
        key: Hash of what it was made from: configuration, data and code.
        run: Folder of the training run, relative to the work folder.
        bundle_id: The bundle.
        day: Day (UTC) that bundle, snapshot and product store are as of.
    """

    key: str
    run: str
    bundle_id: str
    day: int


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """Paths under the work folder."""

    path: Path

    @property
    def bundle(self) -> Path:
        """The exported bundle."""
        return self.path / "bundle"

    @property
    def snapshot(self) -> Path:
        """The catalogue snapshot."""
        return self.path / "snapshot"

    @property
    def products(self) -> Path:
        """The product store."""
        return self.path / "products"

    @property
    def index(self) -> Path:
        """The embedded search index."""
        return self.path / "index"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.path / "report.html"

    @property
    def replay(self) -> Path:
        """The figures of the replay."""
        return self.path / "replay.json"

    @property
    def server_log(self) -> Path:
        """What the rerank server says."""
        return self.path / "server.log"

    def finished(self) -> Finished | None:
        """What earlier steps have left, None when they have not come to their end."""
        try:
            return Finished(**json.loads((self.path / "finished.json").read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def set_finished(self, finished: Finished) -> None:
        """Remember that the steps are done."""
        write_text(self.path / "finished.json", json.dumps(asdict(finished), indent=1))

    def require_room(self) -> None:
        """Refuse to begin what would fill the disk.

        Raises:
            WorkFolderError: Too little is free.
        """
        free = shutil.disk_usage(self.path).free
        if free < ROOM_BYTES:
            raise WorkFolderError(
                f"work folder {self.path}: got {free / 1024**3:.1f} GiB free, "
                f"want {ROOM_BYTES / 1024**3:.0f}; another one can be named with --work"
            )


@contextmanager
def opened_work_folder(path: Path) -> Iterator[WorkFolder]:
    """Make the folder where needed and keep other demos out of it until the block ends.

    Raises:
        WorkFolderError: It cannot be written, or another demo is using it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):  # read-only file systems say so here
            lock = (path / "lock").open("a+")
    except OSError as error:
        raise WorkFolderError(
            f"work folder {path}: got {error.strerror or error}, want a folder that can be written"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise WorkFolderError(
                f"work folder {path}: got one that process {lock.read().strip() or '?'} is using, "
                "want another with --work, or that process to end"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield WorkFolder(path)


def code_hash() -> str:
    """SHA-256 of the code that trains, evaluates and exports."""
    training = Path(trainer.__file__).parent
    contract = training.parent / "rerank_server" / "contract"
    digest = hashlib.sha256()
    for source in sorted([*training.rglob("*.py"), *contract.rglob("*.py")]):
        digest.update(source.read_bytes())
    return digest.hexdigest()
