"""The data streams behind the index templates: made, brought up to date, and removed.

A template that changes leaves a data stream that is there as it is, so its newest index and its
retention are compared with the template as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from elasticsearch import Elasticsearch

from es_plugin_config.cluster import ConfigurationClusterError, Features, call
from es_plugin_config.drift import diff_of
from es_plugin_config.resources import Json

# Elasticsearch's own entry of a data stream's mappings.
_OWN_MAPPING = "_data_stream_timestamp"
MODULE = "data-streams"


@dataclass(frozen=True, slots=True)
class StreamState:
    """How one data stream compares with its template.

    Attributes:
        name: Of the data stream.
        exists: Whether it is there; without it there is nothing to compare.
        mapping_diff: How the newest index's mapping differs; empty when it does not.
        retention_diff: The same of the retention.
    """

    name: str
    exists: bool
    mapping_diff: str = ""
    retention_diff: str = ""

    @property
    def diff(self) -> str:
        """Both differences."""
        return self.mapping_diff + self.retention_diff


def read_stream(client: Elasticsearch, features: Features, name: str) -> StreamState:
    """Compare a data stream with the template that is in force for it.

    Raises:
        ConfigurationClusterError: The cluster cannot be reached or refuses to answer.
    """
    mappings = call(client, "GET", f"/{name}/_mapping")
    if mappings is None:
        return StreamState(name, exists=False)
    template = _composed_template(client, name)
    want = _without_own(template.get("mappings", {}))
    newest = max(mappings, key=lambda index: index.rpartition("-")[2])
    got = _without_own(mappings[newest]["mappings"])
    retention_diff = ""
    if features.has_module(MODULE):
        wanted = {"data_retention": template.get("lifecycle", {}).get("data_retention")}
        held = {"data_retention": _retention(client, name)}
        retention_diff = diff_of(held, wanted, f"/_data_stream/{name}/_lifecycle")
    return StreamState(
        name,
        exists=True,
        mapping_diff=diff_of(got, want, f"/{name}/_mapping"),
        retention_diff=retention_diff,
    )


def update_stream(client: Elasticsearch, features: Features, name: str) -> str:
    """Make a data stream what its template says, and say in a word or two what was done.

    A mapping that the newest index cannot take goes to a new index of the stream (a rollover);
    the older ones keep theirs until their retention ends.

    Raises:
        ConfigurationClusterError: The cluster cannot be reached or refuses.
    """
    state = read_stream(client, features, name)
    if not state.exists:
        if not features.has_module(MODULE):
            return "left to its first document"
        call(client, "PUT", f"/_data_stream/{name}")
        return "put"
    if state.retention_diff:
        lifecycle = _composed_template(client, name).get("lifecycle", {})
        body = {"data_retention": lifecycle.get("data_retention")}
        call(client, "PUT", f"/_data_stream/{name}/_lifecycle", body)
    if not state.mapping_diff:
        return "put the retention of" if state.retention_diff else "unchanged"
    want = _without_own(_composed_template(client, name).get("mappings", {}))
    try:
        call(client, "PUT", f"/{name}/_mapping?write_index_only=true", want)
    except ConfigurationClusterError:
        call(client, "POST", f"/{name}/_rollover")
        return "rolled over"
    if read_stream(client, features, name).mapping_diff:  # fields that the template no longer has
        call(client, "POST", f"/{name}/_rollover")
        return "rolled over"
    return "put the mapping of"


def remove_stream(client: Elasticsearch, features: Features, name: str) -> bool:
    """Delete a data stream with all its documents; whether there was one.

    Raises:
        ConfigurationClusterError: The cluster refuses, or has no API for it.
    """
    if call(client, "GET", f"/{name}/_mapping") is None:
        return False
    if not features.has_module(MODULE):
        raise ConfigurationClusterError(
            f"data stream {name}: got nodes without the module {MODULE}, want one that deletes it"
        )
    return call(client, "DELETE", f"/_data_stream/{name}") is not None


def _composed_template(client: Elasticsearch, name: str) -> Json:
    answer: Json = call(client, "POST", f"/_index_template/_simulate_index/{name}")
    template: Json = answer.get("template", {})
    return template


def _retention(client: Elasticsearch, name: str) -> str | None:
    answer = call(client, "GET", f"/_data_stream/{name}/_lifecycle") or {"data_streams": [{}]}
    retention: str | None = answer["data_streams"][0].get("lifecycle", {}).get("data_retention")
    return retention


def _without_own(mappings: Json) -> Json:
    return {key: value for key, value in mappings.items() if key != _OWN_MAPPING}
