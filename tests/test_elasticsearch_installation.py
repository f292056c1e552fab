from __future__ import annotations

import os

import pytest

from tests import elasticsearch_installation as installation


def test_a_cache_folder_that_cannot_be_made_is_named(monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("CROSSRANK_ES_CACHE", str(blocked / "cache"))
    with pytest.raises(installation.ElasticsearchUnavailableError, match="CROSSRANK_ES_CACHE"):
        installation.find_cache(installation.find_runner())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
def test_a_folder_that_the_server_cannot_reach_is_not_used(monkeypatch, tmp_path):
    tmp_path.chmod(0o700)
    monkeypatch.setenv("CROSSRANK_ES_CACHE", str(tmp_path / "cache"))
    with pytest.raises(installation.ElasticsearchUnavailableError, match="cannot reach it"):
        installation.find_cache(installation.find_runner())


def test_a_version_that_does_not_exist_is_unavailable(monkeypatch, tmp_path):
    monkeypatch.setattr(installation, "GROUP", "org.elasticsearch.no-such-group")
    with pytest.raises(installation.ElasticsearchUnavailableError, match=r"Elasticsearch 8\.19\.4"):
        installation._download("8.19.4", tmp_path)
