"""What reads bytes from outside, each as a function that takes any bytes and may only refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from google.protobuf.message import DecodeError

from rerank_server.cohere_form import read_cohere_call
from rerank_server.contract import bundle as bundles
from rerank_server.contract.errors import RerankError
from rerank_server.contract.golden import golden_from_json, golden_to_json
from rerank_server.convert import page_from_pb
from rerank_server.http_api import _read_request
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.policy_parse import parse_policy
from tests.rerank_server.tiny_bundle import SCHEMA, tiny_content, tiny_graph_bytes

PAGE = pb.RerankRequest(
    candidate_ids=["milk-1", "dog-1"],
    retrieval_scores=[1.5, 0.5],
    query="milk",
    signals=[pb.Signal(name="promoted", values=[1, 0])],
    history=pb.History(product_ids=["cat-1"], times=[1_700_000_000], kinds=[pb.EVENT_KIND_CLICK]),
    objective_weights={"purchase": 1.0},
    top_k=2,
)
PAGE_JSON = (
    b'{"candidate_ids": ["milk-1"], "query": "milk", "history": '
    b'{"productIds": ["dog-1"], "times": ["1"]}}'
)
COHERE_JSON = b'{"query": "milk", "documents": ["a", {"text": "b", "id": "milk-1"}], "top_n": 1}'
POLICY = Path(__file__).resolve().parents[3] / "deploy" / "policy.example.toml"


def read_proto(data: bytes) -> None:
    """Read a message and the page of it."""
    page_from_pb(pb.RerankRequest.FromString(data))


def read_page_json(data: bytes) -> None:
    """Read the JSON form of a page."""
    page_from_pb(_read_request(data))


def read_cohere_json(data: bytes) -> None:
    """Read the JSON of the Cohere form."""
    read_cohere_call(data, "0" * 64)


def read_policy(data: bytes) -> None:
    """Read a policy."""
    parse_policy(data.decode(errors="replace"))


def read_manifest(data: bytes) -> None:
    """Read the manifest of a bundle."""
    manifest = bundles._manifest_from_json(bundles._parse(data, "manifest.json"))
    bundles._check_manifest(manifest)


def read_golden(data: bytes) -> None:
    """Read the golden pages of a bundle."""
    golden_from_json(bundles._parse(data, "golden.json"), SCHEMA)


READERS: dict[str, Callable[[bytes], None]] = {
    "proto": read_proto,
    "page JSON": read_page_json,
    "Cohere JSON": read_cohere_json,
    "policy": read_policy,
    "manifest": read_manifest,
    "golden pages": read_golden,
}


@cache
def seeds() -> dict[str, bytes]:
    """Return one good input of each reader."""
    with TemporaryDirectory() as folder:
        bundles.write_bundle(Path(folder) / "bundle", tiny_content(tiny_graph_bytes()))
        manifest = (Path(folder) / "bundle" / "manifest.json").read_bytes()
    golden = json.dumps(golden_to_json(tiny_content(tiny_graph_bytes()).golden)).encode()
    return {
        "proto": PAGE.SerializeToString(),
        "page JSON": PAGE_JSON,
        "Cohere JSON": COHERE_JSON,
        "policy": POLICY.read_bytes(),
        "manifest": manifest,
        "golden pages": golden,
    }


def read(name: str, data: bytes) -> bool:
    """Return whether a reader takes `data`; anything but a clear refusal is raised."""
    try:
        READERS[name](data)
    except (RerankError, DecodeError):  # the server answers both as INVALID_ARGUMENT
        return False
    return True
