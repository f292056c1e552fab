"""`crossrank doctor`: each broken set-up is found, named, and has something to do about it."""

from __future__ import annotations

import json
import shutil
import socket
from datetime import UTC, datetime, timedelta

import pytest

from rerank_server.commands.root import main
from rerank_server.doctor.finding import Grade
from rerank_server.doctor.machine import (
    check_clock,
    check_cores,
    check_memory,
    check_provider,
    clock_is_synchronised,
)
from rerank_server.settings import Settings
from tests.rerank_server.test_tls import Authority
from tests.rerank_server.token_files import write_tokens


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch):
    for name in ("RERANK_BUNDLE", "RERANK_PRODUCTS", "RERANK_HOST", "RERANK_PORT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def examined(tiny_folders, capsys):
    """Run the doctor and return the exit status with the findings that are not good."""

    def run(*flags, bundle=None, products=None) -> tuple[int, list[dict[str, str]]]:
        folders = {
            "--bundle": bundle or tiny_folders.bundle,
            "--products": products or tiny_folders.products,
            "--port": 0,
        }
        arguments = [str(part) for pair in folders.items() for part in pair]
        status = main(["doctor", "--json", *arguments, *map(str, flags)])
        found = json.loads(capsys.readouterr().out)
        assert all(finding["advice"] for finding in found if finding["grade"] != "good")
        # whether the clock of the machine under test is kept right is not ours
        return status, [
            finding
            for finding in found
            if finding["grade"] == "broken" or finding["check"] not in {"clock", "provider"}
            if finding["grade"] != "good"
        ]

    return run


def only(examined, *flags, **folders) -> dict[str, str]:
    """The one thing that is broken."""
    status, found = examined(*flags, **folders)
    assert status == 1
    assert len(found) == 1, found
    assert found[0]["grade"] == "broken"
    finding: dict[str, str] = found[0]
    return finding


def test_a_whole_installation_is_well(examined, tiny_folders, capsys):
    assert examined() == (0, [])
    folders = ["--bundle", str(tiny_folders.bundle), "--products", str(tiny_folders.products)]
    assert main(["doctor", *folders, "--port", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "ok       products: 5 products of bundle" in "\n".join(lines)


def test_a_bundle_that_is_not_there(examined, tmp_path):
    finding = only(examined, bundle=tmp_path / "nowhere")
    assert "manifest.json: got No such file" in finding["found"]
    assert "--bundle" in finding["advice"]


def test_a_bundle_with_a_changed_file(examined, broken_copy):
    finding = only(examined, bundle=broken_copy("scorer.onnx").bundle)
    assert "scorer.onnx: got sha256" in finding["found"]
    assert "copy the bundle again" in finding["advice"]


def test_a_bundle_without_one_of_its_files(examined, tiny_folders, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_folders.bundle, folder)
    (folder / "vocabulary.json").unlink()
    assert "vocabulary.json: got No such file" in only(examined, bundle=folder)["found"]


def test_a_bundle_of_another_format(examined, tiny_folders, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_folders.bundle, folder)
    manifest = folder / "manifest.json"
    text = manifest.read_text()
    now = json.loads(text)["format_version"]
    manifest.write_text(text.replace(f'"format_version": {now}', '"format_version": 99'))
    finding = only(examined, bundle=folder)
    assert "got format_version 99, want 1" in finding["found"]
    assert "another release" in finding["advice"]


def test_a_bundle_that_scores_otherwise_than_the_trainer(examined, out_of_tolerance):
    finding = only(examined, bundle=out_of_tolerance.bundle)
    assert "golden pages" in finding["found"]
    assert "locked onnxruntime" in finding["advice"]


def test_a_store_of_another_bundle(examined, other_folders):
    finding = only(examined, products=other_folders.products)
    assert finding["check"] == "products"
    assert "crossrank store build --bundle" in finding["advice"]


def test_a_store_that_was_cut_off(examined, tiny_folders, tmp_path):
    folder = tmp_path / "products"
    shutil.copytree(tiny_folders.products, folder)
    largest = max(folder.rglob("*.npy"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-8])
    finding = only(examined, products=folder)
    assert finding["check"] == "products"
    assert largest.name in finding["found"]


def test_a_store_of_another_format(examined, tiny_folders, tmp_path):
    folder = tmp_path / "products"
    shutil.copytree(tiny_folders.products, folder)
    manifest = json.loads((folder / "store.json").read_text())
    (folder / "store.json").write_text(json.dumps(manifest | {"format_version": 99}))
    finding = only(examined, products=folder)
    assert "got format_version 99" in finding["found"]
    assert "another release" in finding["advice"]


def test_a_store_that_is_not_there(examined, tmp_path):
    finding = only(examined, products=tmp_path / "nowhere")
    assert "name the folder of the product store" in finding["advice"]


def test_a_port_that_is_taken(examined):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        finding = only(examined, "--port", port)
    assert f"127.0.0.1:{port}: got Address already in use" in finding["found"]
    assert f"ss -ltnp 'sport = :{port}'" in finding["advice"]


def test_an_address_of_another_machine(examined):
    finding = only(examined, "--host", "192.0.2.1", "--insecure-listen")
    assert "192.0.2.1:0: got" in finding["found"]
    assert "an address of this machine" in finding["advice"]


def test_an_address_that_others_reach_in_clear_text(examined):
    assert "in clear text" in only(examined, "--host", "0.0.0.0")["found"]


def test_one_port_for_two_doors(examined, unused_tcp_port):
    finding = only(examined, "--port", unused_tcp_port, "--http-port", unused_tcp_port)
    assert "got it for two doors" in finding["found"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def tls_flags(certificate, key) -> tuple[str, ...]:
    key.chmod(0o600)
    return "--tls-certificate", str(certificate), "--tls-key", str(key)


def test_a_certificate_that_is_well(examined, authority):
    assert examined(*tls_flags(*authority.issue("server"))) == (0, [])


def test_a_key_of_another_certificate(examined, authority):
    (certificate, _), (_, key) = authority.issue("one"), authority.issue("other")
    finding = only(examined, *tls_flags(certificate, key))
    assert "key values mismatch" in finding["found"]
    assert "openssl pkey -pubout" in finding["advice"]


def test_an_expired_certificate(examined, authority):
    finding = only(examined, *tls_flags(*authority.issue("old", expired=True)))
    assert "expired" in finding["found"]
    assert finding["advice"] == "renew the certificate"


def test_a_certificate_that_ends_soon_is_a_warning(examined, authority):
    issued = authority.ca.issue_cert("localhost", not_after=datetime.now(UTC) + timedelta(days=3))
    certificate, key = authority.folder / "soon.pem", authority.folder / "soon.key"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    status, (finding,) = examined(*tls_flags(certificate, key))
    assert (status, finding["grade"]) == (0, "warning")
    assert "renew it soon" in finding["advice"]


def test_a_key_that_everyone_may_read(examined, authority):
    certificate, key = authority.issue("open")
    flags = tls_flags(certificate, key)
    key.chmod(0o644)
    assert "got mode 644" in only(examined, *flags)["found"]


def test_a_token_file_that_everyone_may_read(examined, tmp_path):
    path = tmp_path / "tokens.toml"
    write_tokens(path, "shop")
    path.chmod(0o604)
    finding = only(examined, "--tokens", path)
    assert "got mode 604" in finding["found"]
    assert f"chmod 600 {path}" in finding["advice"]
    path.chmod(0o600)
    assert examined("--tokens", path) == (0, [])


def test_a_token_file_that_is_malformed(examined, tmp_path):
    path = tmp_path / "tokens.toml"
    path.write_text('[[token]]\nname = "shop"\n')
    path.chmod(0o600)
    finding = only(examined, "--tokens", path)
    assert finding["check"] == "tokens"
    assert "crossrank token new" in finding["advice"]


def test_tokens_that_have_all_expired(examined, tmp_path):
    path = tmp_path / "tokens.toml"
    write_tokens(path, "shop", more="expires = 2020-01-01T00:00:00Z\n")
    path.chmod(0o600)
    assert "got expired tokens only" in only(examined, "--tokens", path)["found"]


def test_a_policy_that_is_invalid_or_names_what_the_bundle_lacks(examined, tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text('[[hide]]\nname = "a"\nbrand = ["x"]\n')
    assert "nearest: brands" in only(examined, "--policy", path)["found"]
    path.write_text('[[hide]]\nname = "a"\nbrands = ["a brand never seen"]\n')
    assert "a brand never seen" in only(examined, "--policy", path)["found"]


def test_an_execution_provider_that_is_not_installed(examined):
    finding = only(examined, "--provider", "Migraphx")
    assert "CPUExecutionProvider, want Migraphx" in finding["found"]
    assert examined("--provider", "cpu")[0] == 0


def test_a_gpu_that_onnxruntime_does_not_use_is_a_warning(tmp_path):
    device = tmp_path / "nvidia0"
    device.touch()
    (finding,) = check_provider(None, device)
    if "CUDA" in finding.found.partition("with")[2]:
        pytest.skip("onnxruntime has CUDA here")
    assert finding.grade is Grade.WARNING
    assert "onnxruntime-gpu" in finding.advice


def test_more_workers_than_the_container_has_cores(tiny_folders, tmp_path):
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    settings = Settings(tiny_folders.bundle, tiny_folders.products, workers=4)
    (finding,) = check_cores(settings, tmp_path)
    assert finding.grade is Grade.BROKEN
    assert "--workers: got 4, want at most the 1 cores of the container" in finding.found
    (finding,) = check_cores(Settings(tiny_folders.bundle, tiny_folders.products), tmp_path)
    assert finding.grade is Grade.GOOD


@pytest.mark.parametrize(
    ("limit", "grade"), [("104857600", Grade.BROKEN), ("1073741824", Grade.GOOD)]
)
def test_too_little_memory_for_the_program(limit, grade, tiny_folders, tmp_path):
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    settings = Settings(tiny_folders.bundle, tiny_folders.products)
    (finding,) = check_memory(settings, tmp_path)
    assert finding.grade is grade


def test_a_store_larger_than_the_memory_is_a_warning(tiny_folders, tmp_path):
    (tmp_path / "memory.max").write_text(str(400 * 2**20))
    products = tmp_path / "products"
    products.mkdir()
    with (products / "vectors.npy").open("wb") as file:
        file.truncate(200 * 2**20)  # takes no room on disk
    (finding,) = check_memory(Settings(tiny_folders.bundle, products), tmp_path)
    assert finding.grade is Grade.WARNING
    assert "got 200 MiB of products within 400 MiB" in finding.found


def test_a_clock_before_the_bundle_was_written_and_one_that_nothing_keeps(tiny_folders):
    settings = Settings(tiny_folders.bundle, tiny_folders.products)
    (finding,) = check_clock(settings, datetime(1970, 1, 2, tzinfo=UTC), synchronised=True)
    assert finding.grade is Grade.BROKEN
    assert "got 1970-01-02 00:00, want a time after" in finding.found
    later = datetime(2100, 1, 1, tzinfo=UTC)
    (finding,) = check_clock(settings, later, synchronised=False)
    assert finding.grade is Grade.WARNING
    (finding,) = check_clock(settings, later, synchronised=None)
    assert finding.grade is Grade.GOOD
    assert clock_is_synchronised() in {True, False, None}


def test_a_folder_that_cannot_be_written(examined):
    finding = only(examined, "--changes", "/proc/crossrank")
    assert finding["check"] == "changes"
    assert "want a folder to write to" in finding["found"]


def test_a_disk_that_is_full(examined, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=3 * 2**20))
    finding = only(examined, "--changes", tmp_path / "changes")
    assert "got 3 MiB of room" in finding["found"]
    assert not (tmp_path / "changes").exists()


def test_a_variable_that_no_setting_has(examined, monkeypatch):
    monkeypatch.setenv("RERANK_BUNDEL", "x")
    finding = only(examined)
    assert finding["check"] == "settings"
    assert "nearest: RERANK_BUNDLE" in finding["found"]
