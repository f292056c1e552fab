from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from es_plugin_config.kibana.content_package import write_content_package

PROGRAM = Path(__file__).parent / "package_check"


@pytest.fixture(scope="module")
def package_check(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Elastic's package-spec validator, built from the Go module proxy."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("package-spec: got no Go tool chain, want go 1.26 or later on the path")
    program = tmp_path_factory.mktemp("go") / "package_check"
    built = subprocess.run(
        [go, "build", "-mod=readonly", "-o", str(program), "."],
        cwd=PROGRAM,
        env={**os.environ, "GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    if built.returncode:
        pytest.skip(f"package-spec: cannot be built here: {built.stderr[-800:]}")
    return program


def check(program: Path, folder: Path) -> tuple[int, str]:
    done = subprocess.run([program, folder], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.slow
def test_elastics_own_validator_accepts_the_package(package_check: Path, tmp_path: Path) -> None:
    folder = tmp_path / "crossrank"
    write_content_package(folder)
    assert check(package_check, folder) == (0, "")


@pytest.mark.slow
def test_elastics_own_validator_finds_a_reference_to_nothing(
    package_check: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "crossrank"
    write_content_package(folder)
    (folder / "kibana/search/crossrank-search-orders.json").unlink()
    status, said = check(package_check, folder)
    assert status == 1
    assert "dangling reference found: crossrank-search-orders (search)" in said


@pytest.mark.slow
def test_elastics_own_validator_finds_a_panel_without_a_filter(
    package_check: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "crossrank"
    write_content_package(folder)
    path = folder / "kibana/dashboard/crossrank-quality.json"
    saved = json.loads(path.read_text())
    panels = json.loads(saved["attributes"]["panelsJSON"])
    panels[1]["embeddableConfig"]["attributes"]["state"]["filters"] = []
    saved["attributes"]["panelsJSON"] = json.dumps(panels)
    path.write_text(json.dumps(saved))
    status, said = check(package_check, folder)
    assert status == 1
    assert "at least one panel does not have a filter" in said


def test_the_package_holds_every_dashboard_and_rule_once(tmp_path: Path) -> None:
    write_content_package(tmp_path)
    assert len(list((tmp_path / "kibana/dashboard").iterdir())) == 6
    assert len(list((tmp_path / "kibana/search").iterdir())) == 4
    assert len(list((tmp_path / "kibana/alerting_rule_template").iterdir())) == 7
