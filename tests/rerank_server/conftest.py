"""A tiny bundle, its product store, and a running server around them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from rerank_server.bundle_store import BundleStore
from rerank_server.contract.bundle import Bundle, read_bundle, write_bundle
from rerank_server.pb.rerank_pb2_grpc import RerankServiceStub
from rerank_server.reranker import Reranker
from rerank_server.server import RerankServer
from tests.rerank_server.running import tiny_rerank_server
from tests.rerank_server.tiny_bundle import (
    tiny_content,
    tiny_graph_bytes,
    write_tiny_bundle,
    write_tiny_store,
)


@dataclass(frozen=True)
class TinyFolders:
    bundle: Path
    products: Path
    snapshot: Path


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory) -> TinyFolders:
    root = tmp_path_factory.mktemp("tiny")
    folders = TinyFolders(root / "bundle", root / "products", root / "snapshot")
    bundle = write_tiny_bundle(folders.bundle)
    write_tiny_store(folders.products, bundle, folders.snapshot)
    return folders


@pytest.fixture(scope="session")
def other_folders(tmp_path_factory) -> TinyFolders:
    """A bundle that orders every page the other way round, with its products."""
    root = tmp_path_factory.mktemp("other")
    folders = TinyFolders(root / "bundle", root / "products", root / "snapshot")
    bundle = write_bundle(folders.bundle, tiny_content(tiny_graph_bytes(sign=-1.0)))
    write_tiny_store(folders.products, bundle, folders.snapshot)
    return folders


@pytest.fixture
def broken_copy(tmp_path, other_folders):
    """Copy the other bundle and change a byte of one file."""

    def copy(name: str) -> TinyFolders:
        folder = tmp_path / "broken"
        shutil.copytree(other_folders.bundle, folder)
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)
        return TinyFolders(folder, other_folders.products, other_folders.snapshot)

    return copy


@pytest.fixture
def out_of_tolerance(tmp_path) -> TinyFolders:
    """A whole bundle whose scores are not those of its golden pages."""
    folders = TinyFolders(tmp_path / "bundle", tmp_path / "products", tmp_path / "snapshot")
    content = tiny_content(tiny_graph_bytes(sign=-1.0))
    content.golden.probabilities[0][0, 0] += 1e-3
    write_tiny_store(folders.products, write_bundle(folders.bundle, content), folders.snapshot)
    return folders


@pytest.fixture(scope="session")
def tiny_bundle(tiny_folders) -> Bundle:
    return read_bundle(tiny_folders.bundle)


@pytest.fixture(scope="session")
def tiny_reranker(tiny_folders) -> Reranker:
    return Reranker.open(tiny_folders.bundle, tiny_folders.products, threads=1)


@dataclass(frozen=True)
class Running:
    server: RerankServer
    channel: grpc.aio.Channel
    stub: RerankServiceStub
    port: int


@pytest.fixture
async def serving():
    """Serve any reranker on a free port for the time of one test."""
    running: list[Running] = []

    async def start(reranker: Reranker | BundleStore[Reranker], **options) -> Running:
        server = tiny_rerank_server(reranker, **options)
        port = await server.start("localhost", 0)
        channel = grpc.aio.insecure_channel(f"localhost:{port}")
        running.append(Running(server, channel, RerankServiceStub(channel), port))
        return running[-1]

    yield start
    for item in running:
        await item.channel.close()
        await item.server.stop(timedelta(seconds=2))


@pytest.fixture
async def tiny_server(serving, tiny_reranker) -> Running:
    running: Running = await serving(tiny_reranker)
    return running
