from __future__ import annotations

import zipfile

import pytest

from tests.elasticsearch_installation import VERSION
from tests.es_plugin_config.plugin.plugin_build import PluginUnavailableError, build, find_jdk

pytestmark = [pytest.mark.slow, pytest.mark.elasticsearch]


@pytest.fixture(scope="module")
def built():
    try:
        return build(VERSION)
    except PluginUnavailableError as error:
        pytest.skip(str(error))


def test_the_java_tests_pass_while_the_plugin_is_built(built):
    assert built.tests >= 40


def test_the_plugin_is_for_exactly_one_version(built):
    with zipfile.ZipFile(built.archive) as archive:
        descriptor = archive.read("plugin-descriptor.properties").decode()
        names = archive.namelist()
    assert f"elasticsearch.version={VERSION}\n" in descriptor
    assert "classname=crossrank.elasticsearch.CrossRerankPlugin\n" in descriptor
    assert "entitlement-policy.yaml" in names
    # what Elasticsearch brings itself must not come twice
    assert not [name for name in names if name.startswith(("elasticsearch-", "lucene", "log4j"))]


def test_a_missing_compiler_is_named():
    with pytest.raises(PluginUnavailableError, match="want a compiler of Java 99 or later"):
        find_jdk(99)
