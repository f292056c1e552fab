"""Brings a cluster to what the files say: applied, compared, and removed again.

Applying is safe to repeat: what is equal already is left alone. What the nodes cannot hold, roles
on a cluster without security for example, is skipped and said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from elasticsearch import Elasticsearch

from es_plugin_config.cluster import Features, call, read_features
from es_plugin_config.drift import resource_diff
from es_plugin_config.resources import Resource, data_streams
from es_plugin_config.streams import MODULE, read_stream, update_stream

Report = Callable[[str, str], None]

ROLES_MODULE = "analysis-common"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One resource or data stream beside what the cluster has.

    Attributes:
        path: Of its API.
        diff: From the cluster to the file; empty where they say the same.
        skipped: Why the cluster cannot hold it; empty where it can.
    """

    path: str
    diff: str = ""
    skipped: str = ""


def compare(
    client: Elasticsearch, resources: Sequence[Resource], features: Features | None = None
) -> list[Comparison]:
    """Compare each resource, then each data stream that is there, with what the cluster has.

    Raises:
        ConfigurationClusterError: The cluster cannot be reached or refuses to answer.
    """
    features = features or read_features(client)
    found = []
    for resource in resources:
        reason = unsupported(resource, features)
        diff = "" if reason else resource_diff(client, resource)
        found.append(Comparison(resource.path, diff, reason))
    found.extend(_compare_stream(client, features, name) for name in data_streams(resources))
    return found


def apply(
    client: Elasticsearch,
    resources: Sequence[Resource],
    *,
    features: Features | None = None,
    report: Report | None = None,
) -> None:
    """Put the resources that the cluster has not, or has otherwise, then the data streams.

    Args:
        client: Of the cluster.
        resources: In the order in which they must be put.
        features: Of the cluster; asked for when None.
        report: Called with what was done and the path it was done to, one by one.

    Raises:
        ConfigurationClusterError: The cluster cannot be reached or refuses one of them.
    """
    features = features or read_features(client)
    tell = report or _silent
    for resource in resources:
        reason = unsupported(resource, features)
        if reason:
            tell("skipped", f"{resource.path} ({reason})")
        elif resource_diff(client, resource):
            call(client, "PUT", resource.path, resource.body)
            tell("put", resource.path)
        else:
            tell("unchanged", resource.path)
    for name in data_streams(resources):
        tell(update_stream(client, features, name), f"/_data_stream/{name}")


def unsupported(resource: Resource, features: Features) -> str:
    """Why the nodes cannot hold a resource; empty when they can."""
    if resource.api == "_security/role" and not features.security:
        return "the cluster checks no users"
    if resource.api == "_security/role" and not features.has_module(ROLES_MODULE):
        return f"the nodes lack the module {ROLES_MODULE}, which the index of roles needs"
    if resource.api == "_scripts":
        language = str(resource.body.get("script", {}).get("lang"))
        if not features.has_module(f"lang-{language}"):
            return f"the nodes lack the module lang-{language}"
    if resource.api == "_ingest/pipeline":
        for processor in resource.body.get("processors", ()):
            for name in processor:
                if not features.has_processor(name):
                    return f"the nodes lack the processor {name}"
    return ""


def _compare_stream(client: Elasticsearch, features: Features, name: str) -> Comparison:
    path = f"/_data_stream/{name}"
    state = read_stream(client, features, name)
    if state.exists:
        return Comparison(path, state.diff)
    if features.has_module(MODULE):
        return Comparison(path, f"--- cluster{path}\n+++ file{path}\n@@ -0,0 +1 @@\n+{{}}\n")
    return Comparison(path)


def _silent(action: str, path: str) -> None:
    """Take a report and do nothing."""
