from __future__ import annotations

import contextlib
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from elasticsearch import Elasticsearch

from deploy.demo import errors
from deploy.demo.retrieval.catalogue import Catalogue, PlaceTable
from deploy.demo.retrieval.elasticsearch_answers import connect
from deploy.demo.retrieval.elasticsearch_index import ALIAS, ElasticsearchIndex
from tests.deploy.demo.retrieval.small_catalogue import product, random_catalogue, small_catalogue

pytestmark = pytest.mark.elasticsearch

NOWHERE = {"index.routing.allocation.require._name": "no-such-node"}


@contextlib.contextmanager
def opened(url: str, catalogue: Catalogue, timeout_s: float = 10) -> Iterator[ElasticsearchIndex]:
    index = ElasticsearchIndex.open(url, catalogue, timeout_s=timeout_s, show_progress=False)
    try:
        yield index
    finally:
        index.close()


@contextlib.contextmanager
def attached(url: str, catalogue: Catalogue, timeout_s: float) -> Iterator[ElasticsearchIndex]:
    """Search without making sure of the index first."""
    index = ElasticsearchIndex(connect(url, timeout_s), ALIAS, catalogue, timeout_s)
    try:
        yield index
    finally:
        index.close()


def search_milk(index: ElasticsearchIndex) -> tuple[str, ...]:
    return index.search("milk", place=None, limit=10, own=()).ids


def indices_of(client: Elasticsearch) -> list[str]:
    return sorted(client.indices.get(index=f"{ALIAS}-*"))


class LateRelay(ThreadingHTTPServer):
    """Passes POST requests on to `url` after `delay_s`."""

    def __init__(self, url: str, delay_s: float) -> None:
        super().__init__(("127.0.0.1", 0), LateRelayHandler)
        self.url, self.delay_s = url, delay_s


class LateRelayHandler(BaseHTTPRequestHandler):
    server: LateRelay

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        time.sleep(self.server.delay_s)
        headers = {name: self.headers[name] for name in ("content-type", "accept")}
        request = urllib.request.Request(self.server.url + self.path, body, headers)
        with urllib.request.urlopen(request) as answer, contextlib.suppress(OSError):
            content = answer.read()
            self.send_response(answer.status)
            self.send_header("x-elastic-product", "Elasticsearch")
            self.send_header("content-type", answer.headers["content-type"])
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Say nothing."""


@contextlib.contextmanager
def relay(url: str, delay_s: float) -> Iterator[str]:
    with LateRelay(url, delay_s) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_an_index_of_an_equal_catalogue_is_reused(elasticsearch_client, elasticsearch_url):
    with opened(elasticsearch_url, small_catalogue()):
        built = elasticsearch_client.indices.get(index=ALIAS).body
    with opened(elasticsearch_url, small_catalogue()) as index:
        assert elasticsearch_client.indices.get(index=ALIAS).body == built
        assert search_milk(index) == ("skim", "bar", "whole", "twin", "oat")


def test_the_alias_moves_to_the_new_catalogue_and_the_old_index_goes(
    elasticsearch_client, elasticsearch_url
):
    elasticsearch_client.indices.create(index=f"{ALIAS}-of-another-shop")
    with opened(elasticsearch_url, random_catalogue(3)):
        pass
    catalogue = small_catalogue()
    with opened(elasticsearch_url, catalogue):
        name = f"{ALIAS}-{catalogue.content_hash[:16]}"
        assert indices_of(elasticsearch_client) == sorted([name, f"{ALIAS}-of-another-shop"])
        assert list(elasticsearch_client.indices.get_alias(name=ALIAS)) == [name]
        (mapping,) = elasticsearch_client.indices.get_mapping(index=ALIAS).values()
        assert mapping["mappings"]["_meta"] == {"catalogue_hash": catalogue.content_hash}


def test_a_half_built_index_is_built_again(elasticsearch_client, elasticsearch_url):
    catalogue = small_catalogue()
    half = f"{ALIAS}-{catalogue.content_hash[:16]}"
    elasticsearch_client.index(index=half, document={"id": "left over"})
    with opened(elasticsearch_url, catalogue) as index:
        assert search_milk(index) == ("skim", "bar", "whole", "twin", "oat")
        assert elasticsearch_client.count(index=ALIAS)["count"] == 8


def test_an_index_that_lost_products_is_built_again(elasticsearch_client, elasticsearch_url):
    with opened(elasticsearch_url, small_catalogue()):
        pass
    elasticsearch_client.delete(index=ALIAS, id="skim", refresh=True)
    with opened(elasticsearch_url, small_catalogue()) as index:
        assert search_milk(index)[0] == "skim"


def test_the_mapping_takes_the_width_of_the_vectors(elasticsearch_client, elasticsearch_url):
    catalogue = Catalogue(
        [product("a", "milk", "dairy", 1, [1, 2, 3]), product("b", "ham", "meat", 1)],
        PlaceTable({}),
    )
    with opened(elasticsearch_url, catalogue):
        (mapping,) = elasticsearch_client.indices.get_mapping(index=ALIAS).values()
        properties = mapping["mappings"]["properties"]
        assert properties["vector"]["dims"] == 3
        assert properties["vector"]["index_options"]["type"] == "int8_hnsw"
        assert properties["text"] == {"type": "text", "analyzer": "crossrank_text"}
        found = elasticsearch_client.search(
            index=ALIAS,
            knn={"field": "vector", "query_vector": [1, 2, 3], "k": 1, "num_candidates": 5},
        )
        assert [hit["_id"] for hit in found["hits"]["hits"]] == ["a"]


def test_nothing_listening_is_down():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(errors.ElasticsearchDownError, match="want a server that answers"):
        ElasticsearchIndex.open(f"http://127.0.0.1:{port}", small_catalogue())


def test_an_address_that_is_none_is_named():
    with pytest.raises(errors.ElasticsearchUrlError, match="got address 'localhost'"):
        ElasticsearchIndex.open("localhost", small_catalogue())


def test_an_index_without_its_shards_is_red(elasticsearch_client, elasticsearch_url):
    catalogue = small_catalogue()
    name = f"{ALIAS}-{catalogue.content_hash[:16]}"
    elasticsearch_client.indices.create(
        index=name, settings=NOWHERE, aliases={ALIAS: {}}, wait_for_active_shards=0
    )
    assert elasticsearch_client.cluster.health()["status"] == "red"
    with (
        attached(elasticsearch_url, catalogue, 5) as index,
        pytest.raises(errors.ElasticsearchRedError, match="got status red"),
    ):
        search_milk(index)
    with pytest.raises(errors.ElasticsearchRedError, match="got status red"):
        ElasticsearchIndex.open(elasticsearch_url, catalogue, show_progress=False)


def test_an_index_that_is_gone_is_missing(elasticsearch_client, elasticsearch_url):
    with opened(elasticsearch_url, small_catalogue()) as index:
        elasticsearch_client.indices.delete(index=indices_of(elasticsearch_client))
        with pytest.raises(
            errors.ElasticsearchIndexMissingError, match=f"index '{ALIAS}': got none"
        ):
            search_milk(index)


def test_products_of_another_catalogue_are_stale(elasticsearch_client, elasticsearch_url):
    with (
        opened(elasticsearch_url, random_catalogue(3)) as index,
        opened(elasticsearch_url, small_catalogue()),
        pytest.raises(errors.ElasticsearchStaleIndexError, match="got product 'skim'"),
    ):
        search_milk(index)


def test_an_answer_after_the_deadline_is_late(elasticsearch_client, elasticsearch_url):
    catalogue = small_catalogue()
    with opened(elasticsearch_url, catalogue), relay(elasticsearch_url, delay_s=2) as url:
        with attached(url, catalogue, 0.2) as index:
            started = time.monotonic()
            with pytest.raises(errors.ElasticsearchLateError, match=r"got no answer in 0\.2 s"):
                search_milk(index)
            assert time.monotonic() - started < 1.5
        with attached(url, catalogue, 10) as index:
            assert search_milk(index)[0] == "skim"


def test_the_spelling_try_shares_the_deadline_of_the_first(elasticsearch_client, elasticsearch_url):
    catalogue = small_catalogue()
    with (
        opened(elasticsearch_url, catalogue),
        relay(elasticsearch_url, delay_s=1) as url,
        attached(url, catalogue, 1.7) as index,
        pytest.raises(errors.ElasticsearchLateError),
    ):
        index.search("mlik", place=None, limit=10, own=())


def test_a_name_that_an_index_holds_is_refused(elasticsearch_client, elasticsearch_url):
    elasticsearch_client.indices.create(index=ALIAS)
    with pytest.raises(errors.ElasticsearchRefusedError, match="got an index of that name"):
        ElasticsearchIndex.open(elasticsearch_url, small_catalogue(), show_progress=False)


def test_a_catalogue_that_is_refused_leaves_the_old_index_in_force(
    elasticsearch_client, elasticsearch_url
):
    with opened(elasticsearch_url, small_catalogue()) as index:
        too_wide = np.ones(5000, np.float32).tolist()
        catalogue = Catalogue([product("a", "milk", "dairy", 1, too_wide)], PlaceTable({}))
        with pytest.raises(errors.ElasticsearchRefusedError, match="number of dimensions"):
            ElasticsearchIndex.open(elasticsearch_url, catalogue, show_progress=False)
        assert search_milk(index) == ("skim", "bar", "whole", "twin", "oat")


def test_a_product_that_is_refused_is_shown(elasticsearch_client, elasticsearch_url):
    products = [product("a", "milk", "dairy", 1), product("b", "ham", "x" * 40_000, 1)]
    catalogue = Catalogue(products, PlaceTable({}))
    with pytest.raises(errors.IndexBuildError, match=r"got 1 products refused, the first with .*b"):
        ElasticsearchIndex.open(elasticsearch_url, catalogue, show_progress=False)
    assert not elasticsearch_client.indices.exists_alias(name=ALIAS)
