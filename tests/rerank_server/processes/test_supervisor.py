"""Several processes behind one port: they answer, change, fall and stop together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest

from rerank_server.pb import admin_pb2
from rerank_server.pb.admin_pb2_grpc import AdminServiceStub
from tests.rerank_server.processes.group import CONNECTIONS, runs, serve_group


@pytest.fixture(scope="module")
def group(tiny_folders, tmp_path_factory):
    with serve_group(tiny_folders, tmp_path_factory.mktemp("group") / "log") as running:
        yield running


def test_both_processes_answer_and_count_together(group):
    before = group.scrape()
    assert len(group.bundles()) == 1
    after = group.scrape()
    name = 'crossrank_calls_total{code="OK",method="/rerank.v1.RerankService/Rerank"}'
    name = name if name in after else next(key for key in after if "calls_total{" in key)
    assert after[name] - before.get(name, 0) == CONNECTIONS
    for process in ("0", "1"):
        assert after[f'process_resident_memory_bytes{{process="{process}"}}'] > 0
    buckets = [key for key in after if key.startswith("crossrank_page_candidates_bucket")]
    assert after[buckets[-1]] == after["crossrank_page_candidates_count"]


def test_a_bundle_is_changed_in_every_process_or_in_none(group, other_folders, broken_copy):
    (first,) = group.bundles()
    with group.channel() as channel:
        admin = AdminServiceStub(channel)
        broken = broken_copy("scorer.onnx")
        with pytest.raises(grpc.RpcError) as refused:
            admin.LoadBundle(
                admin_pb2.LoadBundleRequest(
                    bundle_path=str(broken.bundle), products_path=str(broken.products)
                )
            )
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "scorer.onnx" in (refused.value.details() or "")
        assert group.bundles() == {first}
        admin.LoadBundle(
            admin_pb2.LoadBundleRequest(
                bundle_path=str(other_folders.bundle), products_path=str(other_folders.products)
            )
        )
        admin.DivertPages(admin_pb2.DivertPagesRequest(canary_percent=50))
        held = admin.PromoteBundle(admin_pb2.PromoteBundleRequest()).bundles
    assert held.previous_id == first
    assert group.bundles() == {held.current_id} != {first}


def test_a_killed_process_comes_back_with_what_the_others_hold(group):
    (serving,) = group.bundles()
    with group.channel() as channel:
        held = AdminServiceStub(channel)
        before = group.scrape()
        victim = group.children()[0]
        started = len([one for one in group.messages() if one["message"] == "process serving"])
        os.kill(victim, signal.SIGKILL)
        group.wait_for("process ended, it is started anew")
        group.wait_for("process serving", started + 1)
        assert len(group.children()) == 2
        assert group.bundles() == {serving}
        after = group.scrape()
        for name, count in before.items():
            if name.startswith(("crossrank_calls_total", "crossrank_page_seconds_count")):
                assert after[name] >= count, name
    with group.channel() as channel:  # the one that came back can go back as well
        held = AdminServiceStub(channel).RollBackBundle(
            admin_pb2.RollBackBundleRequest(), wait_for_ready=True
        )
    assert held.bundles.previous_id == serving
    assert group.bundles() == {held.bundles.current_id} != {serving}


def test_no_other_server_takes_the_port(group, tiny_folders):
    port = group.address.rpartition(":")[2]
    command = [sys.executable, "-m", "rerank_server", "serve", "--port", port]
    command += ["--bundle", str(tiny_folders.bundle), "--products", str(tiny_folders.products)]
    for processes in ("1", "2"):
        done = subprocess.run(
            [*command, "--processes", processes],
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1
        assert "crossrank: " in done.stderr
        assert "want a free" in done.stderr


def test_what_is_wrong_is_said_once_and_nothing_stays(tiny_folders, tmp_path):
    command = [sys.executable, "-m", "rerank_server", "serve", "--port", "0", "--processes", "2"]
    command += ["--bundle", str(tmp_path), "--products", str(tiny_folders.products)]
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.count("manifest.json") == 1
    assert "before it served" in done.stderr


def test_a_signal_stops_all_and_the_supervisors_death_too(tiny_folders, tmp_path):
    with serve_group(tiny_folders, tmp_path / "first") as group:
        children = group.children()
        group.process.terminate()
        assert group.process.wait(20) == 0
        assert not any(Path(f"/proc/{child}").exists() for child in children)
    with serve_group(tiny_folders, tmp_path / "second") as group:
        children = group.children()
        group.process.kill()
        until = time.monotonic() + 20
        while any(runs(child) for child in children) and time.monotonic() < until:
            time.sleep(0.05)
        assert not any(runs(child) for child in children)


def test_a_step_that_a_process_does_not_follow_is_said(tiny_folders, other_folders, tmp_path):
    with serve_group(tiny_folders, tmp_path / "log") as group, group.channel() as channel:
        admin = AdminServiceStub(channel)
        folders = admin_pb2.LoadBundleRequest(
            bundle_path=str(other_folders.bundle), products_path=str(other_folders.products)
        )
        loaded = admin.LoadBundle(folders).bundles
        assert loaded.processes_restarted == 0
        # whichever answers: it cannot be the one that is paused
        victim = group.another_than_that_of(channel)
        os.kill(victim, signal.SIGSTOP)
        killer = threading.Timer(1.0, os.kill, (victim, signal.SIGKILL))
        killer.start()
        held = admin.PromoteBundle(admin_pb2.PromoteBundleRequest()).bundles
        killer.join()
        assert held.current_id == loaded.challenger_id
        assert held.processes_restarted == 1
        group.wait_for("process could not follow")
        group.wait_for("process serving", 3)
        assert group.bundles() == {held.current_id}


def test_a_server_whose_first_process_hangs_ends_and_says_why(tiny_folders, tmp_path):
    """Reading a pipe into which nobody writes takes for ever"""
    os.mkfifo(tmp_path / "key")
    command = [sys.executable, "-m", "rerank_server", "serve", "--port", "0", "--processes", "2"]
    command += ["--bundle", str(tiny_folders.bundle), "--products", str(tiny_folders.products)]
    command += ["--shopper-key", str(tmp_path / "key"), "--start-timeout-ms", "1000"]
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=120)
    assert done.returncode == 1
    assert "process does not begin to serve, it is killed" in done.stderr
    assert "got one that did not serve within 1000 ms" in done.stderr


@pytest.mark.slow
def test_a_process_that_hangs_before_it_serves_is_started_anew(tiny_folders, tmp_path):
    key = tmp_path / "key"
    key.write_text("0123456789abcdef" * 4)
    flags = ("--shopper-key", str(key), "--start-timeout-ms", "10000")
    with serve_group(tiny_folders, tmp_path / "log", *flags) as group:
        group.wait_for("process serving", 2)
        key.unlink()
        os.mkfifo(key)
        os.kill(group.children()[1], signal.SIGKILL)
        group.wait_for("process does not begin to serve, it is killed")
        assert len(group.bundles()) == 1  # the other one answers meanwhile
        key.unlink()
        key.write_text("0123456789abcdef" * 4)
        group.wait_for("process serving", 3)
