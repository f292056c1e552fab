"""Takes CrossRank's configuration out of a cluster, the data only when told."""

from __future__ import annotations

from collections.abc import Sequence

from elasticsearch import Elasticsearch

from es_plugin_config.apply import Report, unsupported
from es_plugin_config.cluster import ConfigurationClusterError, Features, call, read_features
from es_plugin_config.resources import Resource, data_streams
from es_plugin_config.streams import remove_stream

PRODUCTS = "crossrank-products-*"


def stored_data(client: Elasticsearch, resources: Sequence[Resource]) -> dict[str, int]:
    """Documents in each data stream of the templates and each product index, by name.

    Raises:
        ConfigurationClusterError: The cluster cannot be reached or refuses to answer.
    """
    held = {}
    for name in [*data_streams(resources), *product_indices(client)]:
        answer = call(client, "GET", f"/{name}/_count")
        if answer is not None:
            held[name] = int(answer["count"])
    return held


def product_indices(client: Elasticsearch) -> list[str]:
    """Names of the indices that hold catalogues."""
    return sorted(call(client, "GET", f"/{PRODUCTS}?filter_path=*.settings.index.uuid") or {})


def remove(
    client: Elasticsearch,
    resources: Sequence[Resource],
    *,
    with_data: bool,
    report: Report,
) -> None:
    """Delete the resources, last applied first.

    A template that a data stream lives by, and the components of it, stay unless the data goes.

    Args:
        client: Of the cluster.
        resources: What to remove, in the order in which they are applied.
        with_data: Delete the data streams and the product indices too.
        report: Called with what was done and the path it was done to.

    Raises:
        ConfigurationClusterError: The cluster cannot be reached or refuses.
    """
    features = read_features(client)
    if with_data:
        _remove_data(client, features, resources, report)
    kept_templates = _in_use(client, resources)
    kept_components = {
        component
        for resource in resources
        if resource.api == "_index_template" and resource.name in kept_templates
        for component in resource.body.get("composed_of", ())
    }
    kept = {("_index_template", name): "its data stream is there" for name in kept_templates}
    kept |= {("_component_template", name): "a kept template uses it" for name in kept_components}
    for resource in reversed(resources):
        if unsupported(resource, features):
            continue
        reason = kept.get((resource.api, resource.name))
        if reason:
            report("kept", f"{resource.path} ({reason})")
        else:
            report(*_delete(client, resource))


def _delete(client: Elasticsearch, resource: Resource) -> tuple[str, str]:
    """Delete one resource; what became of it, and its path."""
    try:
        found = call(client, "DELETE", resource.path) is not None
    except ConfigurationClusterError as error:
        if "in use" not in str(error):
            raise
        return "kept", f"{resource.path} (a template of somebody else uses it)"
    return ("removed" if found else "absent"), resource.path


def _remove_data(
    client: Elasticsearch, features: Features, resources: Sequence[Resource], report: Report
) -> None:
    for name in data_streams(resources):
        if remove_stream(client, features, name):
            report("removed", f"/_data_stream/{name}")
    for name in product_indices(client):
        call(client, "DELETE", f"/{name}")
        report("removed", f"/{name}")


def _in_use(client: Elasticsearch, resources: Sequence[Resource]) -> set[str]:
    """Index templates whose data stream or product index is there."""
    used = set()
    for resource in resources:
        if resource.api != "_index_template":
            continue
        if any(
            call(client, "GET", f"/{name}/_mapping") is not None
            for name in data_streams([resource])
        ):
            used.add(resource.name)
    return used
