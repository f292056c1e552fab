"""The plugin's zip for a version of Elasticsearch, built by Maven once for what it is made of."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[3]
SOURCES = ROOT / "es_plugin_config" / "plugin"
CACHE = ROOT / "var" / "plugin"
BUILD_TIMEOUT_S = 900
# The release of Java that the classes of each line of Elasticsearch are made for.
JAVA_OF_LINE = {"8": 17, "9": 21}
NO_NETWORK = ("Could not transfer", "Unknown host", "offline mode", "Connection refused")


class PluginUnavailableError(RuntimeError):
    """The plugin cannot be built on this machine; the message says what is missing."""


@dataclass(frozen=True)
class BuiltPlugin:
    """A zip and how many of the Java tests passed while it was built."""

    archive: Path
    tests: int


def find_jdk(release: int) -> Path:
    """The newest Java home with a compiler of at least `release`.

    Raises:
        PluginUnavailableError: There is none.
    """
    homes = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    compiler = shutil.which("javac")
    if compiler:
        homes.append(Path(compiler).resolve().parents[1])
    homes += sorted(Path("/usr/lib/jvm").glob("*"))
    found = {_release(home): home for home in homes if (home / "bin" / "javac").exists()}
    if not found or max(found) < release:
        raise PluginUnavailableError(
            f"JDK: got releases {sorted(found)}, want a compiler of Java {release} or later "
            "(on Debian and Ubuntu: apt-get install openjdk-17-jdk-headless, or a later one)"
        )
    return found[max(found)]


def _release(home: Path) -> int:
    file = home / "release"
    named = re.search(r'JAVA_VERSION="(\d+)', file.read_text()) if file.exists() else None
    return int(named[1]) if named else 0


def _content(version: str) -> str:
    """Hash of everything that a build for `version` is made of."""
    digest = hashlib.sha256(version.encode())
    proto = ROOT / "proto" / "rerank" / "v1" / "rerank.proto"
    sources = [path for path in SOURCES.rglob("*") if path.is_file() and _is_source(path)]
    for path in [proto, *sorted(sources)]:
        digest.update(f"{path.relative_to(ROOT)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _is_source(path: Path) -> bool:
    return "target" not in path.relative_to(SOURCES).parts and path.suffix != ".md"


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build(version: str) -> BuiltPlugin:
    """Build and test the plugin for `version`, or take what was built of the same sources.

    Raises:
        PluginUnavailableError: No compiler, no Maven, or no network on the first build.
        RuntimeError: The build or a Java test failed.
    """
    line = version.split(".", maxsplit=1)[0]
    with _locked(CACHE):
        folder = CACHE / f"{version}-{_content(version)}"
        if not folder.is_dir():
            jdk = find_jdk(JAVA_OF_LINE[line])
            _run_maven(version, line, jdk)
            _keep(SOURCES / f"elasticsearch{line}" / "target", folder)
        return BuiltPlugin(folder / f"cross-rerank-{version}.zip", _passed(folder))


def _run_maven(version: str, line: str, jdk: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise PluginUnavailableError(
            "Maven: got no mvn on the path, want one (on Debian and Ubuntu: apt-get install maven)"
        )
    command = [maven, "-B", "-ntp", "-pl", f"elasticsearch{line}", "clean", "package"]
    done = subprocess.run(
        [*command, f"-Delasticsearch{line}.version={version}"],
        check=False,
        capture_output=True,
        text=True,
        cwd=SOURCES,
        env=os.environ | {"JAVA_HOME": str(jdk), "MAVEN_OPTS": "-XX:TieredStopAtLevel=1"},
        timeout=BUILD_TIMEOUT_S,
    )
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-40:])
        failure = RuntimeError
        if any(words in done.stdout for words in NO_NETWORK):
            failure = PluginUnavailableError
        raise failure(f"mvn package: got exit status {done.returncode}, want 0\n{tail}")


def _keep(target: Path, folder: Path) -> None:
    incomplete = folder.with_name(f"{folder.name}.incomplete")
    shutil.rmtree(incomplete, ignore_errors=True)
    incomplete.mkdir(parents=True)
    for path in [*target.glob("cross-rerank-*.zip"), *target.glob("surefire-reports/*.xml")]:
        shutil.copy(path, incomplete)
    for older in folder.parent.glob(f"{folder.name.rpartition('-')[0]}-*"):
        if older != incomplete:
            shutil.rmtree(older)
    incomplete.replace(folder)
    shutil.rmtree(target)


def _passed(folder: Path) -> int:
    """How many Java tests passed; Maven failed the build if one did not."""
    return sum(
        int(suite.get("tests", "0")) - int(suite.get("skipped", "0"))
        for suite in (ElementTree.parse(path).getroot() for path in folder.glob("TEST-*.xml"))
    )
