"""Folders that appear complete or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `folder` that takes its place when the block succeeds.

    Files are flushed to disk before the switch. When the block raises, the sibling is removed
    and what was at `folder` stays. What a killed process left behind is removed by the next
    call for the same folder.
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - keeps a symbolic link as it is
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    temporary = Path(
        tempfile.mkdtemp(prefix=f".{folder.name}.{os.getpid()}-", suffix=".new", dir=folder.parent)
    )
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp makes it private
        _flush(temporary)
        _switch(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def switch_folder(temporary: Path, folder: Path) -> None:
    """Flush `temporary`, a sibling of `folder`, and put it in its place.

    A process that is killed meanwhile leaves the one or the other; what it left behind is removed
    by the next call for the same folder.
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - keeps a symbolic link as it is
    _remove_leftovers(folder)
    _flush(temporary)
    whole = folder.parent / f".{folder.name}.{os.getpid()}-whole.new"
    temporary.replace(whole)
    _switch(whole, folder)


def _switch(temporary: Path, folder: Path) -> None:
    previous = temporary.with_suffix(".old")
    if folder.exists():
        folder.replace(previous)
    try:
        temporary.replace(folder)
    except OSError:
        if previous.exists():
            previous.replace(folder)
        raise
    _flush_entry(folder.parent)
    shutil.rmtree(previous, ignore_errors=True)


def _remove_leftovers(folder: Path) -> None:
    for leftover in folder.parent.glob(f".{folder.name}.*-*"):
        owner = leftover.name.removeprefix(f".{folder.name}.").split("-")[0]
        if not owner.isdigit() or _is_running(int(owner)):
            continue
        if leftover.suffix == ".old" and not folder.exists():
            leftover.replace(folder)  # killed between the two renames: the old one comes back
        elif leftover.suffix in {".new", ".old"}:
            shutil.rmtree(leftover, ignore_errors=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()


def _flush(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            _flush_entry(path)
    _flush_entry(folder)


def _flush_entry(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
