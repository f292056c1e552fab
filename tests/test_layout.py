"""The rules of the repository's shape that no other tool checks."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent

TOP_LEVEL_FOLDERS = {
    ".ci",
    "deploy",
    "es_plugin_config",
    "proto",
    "rerank_server",
    "tests",
    "trainer",
}
SOURCE_SUFFIXES = {".css", ".html", ".java", ".js", ".proto", ".py", ".sh"}
MAX_LINES = 400
MAX_TEST_LINES = 600

# Written in parts, so that this file does not hold what it looks for.
REGISTRY_HOSTS = [
    "pypi" + ".org",
    "python" + "hosted.org",
    "registry." + "npmjs.org",
    "crates" + ".io",
    "proxy." + "golang.org",
    "repo1." + "maven.org",
    "repo." + "maven.apache.org",
    "deb." + "debian.org",
]
MACHINE_PATH = re.compile(r"(?<![\w.~$}-])/(?:work|root|Users|home/\w+)/")

# What each part of the contract may import beside the standard library and the contract itself.
CONTRACT_IMPORTS = {"numpy"}
CONTRACT_EXTRA_IMPORTS = {"text.py": {"tokenizers"}}


@cache
def tracked_files() -> list[Path]:
    """The files that git tracks or would track, relative to the root."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"git ls-files: got {error!r}, want a git checkout")
    paths = [Path(name) for name in listing.stdout.split("\0") if name]
    return [path for path in paths if (ROOT / path).is_file()]


def read_text(path: Path) -> str | None:
    """A tracked file's text; None when it is binary."""
    content = (ROOT / path).read_bytes()
    if b"\0" in content[:8192]:
        return None
    return content.decode("utf-8")


def is_generated(path: Path) -> bool:
    return path.is_relative_to("rerank_server/pb") or path.is_relative_to(
        "tests/benchmarks/results"
    )


def test_only_the_designed_top_level_folders_exist() -> None:
    folders = {path.parts[0] for path in tracked_files() if len(path.parts) > 1}
    assert folders <= TOP_LEVEL_FOLDERS


def test_every_init_file_is_only_a_docstring() -> None:
    with_code = []
    for path in tracked_files():
        if path.name == "__init__.py":
            module = ast.parse((ROOT / path).read_text("utf-8"))
            if ast.get_docstring(module) is None or len(module.body) != 1:
                with_code.append(str(path))
    assert with_code == []


def test_no_file_is_too_long() -> None:
    too_long = {}
    for path in tracked_files():
        if path.suffix in SOURCE_SUFFIXES and not is_generated(path):
            lines = len((ROOT / path).read_text("utf-8").splitlines())
            if lines > (MAX_TEST_LINES if path.parts[0] == "tests" else MAX_LINES):
                too_long[str(path)] = lines
    assert too_long == {}


def test_no_file_names_a_package_registry() -> None:
    naming = [
        f"{path}: {host}"
        for path in tracked_files()
        for host in REGISTRY_HOSTS
        if host in (read_text(path) or "")
    ]
    assert naming == []


def test_no_file_names_a_path_of_one_machine() -> None:
    naming = []
    for path in tracked_files():
        for number, line in enumerate((read_text(path) or "").splitlines(), start=1):
            if MACHINE_PATH.search(line):
                naming.append(f"{path}:{number}: {line.strip()[:100]}")
    assert naming == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cd /wo" + "rk/main", True),
        ('Path("/ho' + 'me/someone/data")', True),
        ("https://example.com/wo" + "rk/item", False),
        ("../wo" + "rk/item and $HOME/wo" + "rk/", False),
    ],
)
def test_a_machine_path_is_told_from_a_part_of_one(text: str, found: bool) -> None:
    assert bool(MACHINE_PATH.search(text)) is found


def imported_packages(source: str) -> set[str]:
    """Top-level names a module imports anywhere, type-checking blocks included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


def test_the_contract_imports_only_numpy_and_the_standard_library() -> None:
    refused = {}
    for path in sorted((ROOT / "rerank_server/contract").rglob("*.py")):
        allowed = CONTRACT_IMPORTS | CONTRACT_EXTRA_IMPORTS.get(path.name, set())
        allowed |= sys.stdlib_module_names | {"rerank_server"}
        extra = imported_packages(path.read_text("utf-8")) - allowed
        if extra:
            refused[path.name] = sorted(extra)
    assert refused == {}


def read_lock(name: str) -> dict[str, set[str]]:
    """Versions pinned by a lock file, by package; several where they differ by Python version."""
    pins: dict[str, set[str]] = {}
    for line in (ROOT / name).read_text("utf-8").splitlines():
        if line[:1].isalnum():
            requirement = Requirement(line.removesuffix("\\").strip())
            (version,) = (spec.version for spec in requirement.specifier)
            pins.setdefault(canonicalize_name(requirement.name), set()).add(version)
    return pins


def read_requirements(*extras: str) -> list[Requirement]:
    """What the project asks for, with the extras given; its own name is left out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    return [
        requirement
        for requirement in map(Requirement, lines)
        if requirement.name != project["name"]
    ]


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        ("requirements-server.lock", ()),
        ("requirements-trainer.lock", ("trainer", "search")),
        ("requirements.lock", ("trainer", "search", "demo", "dev")),
    ],
)
def test_the_lock_satisfies_every_requirement(lock: str, extras: tuple[str, ...]) -> None:
    pins = read_lock(lock)
    unmet = [
        f"{requirement}: got {sorted(pins.get(canonicalize_name(requirement.name), set()))}"
        for requirement in read_requirements(*extras)
        if not any(
            requirement.specifier.contains(version)
            for version in pins.get(canonicalize_name(requirement.name), set())
        )
    ]
    assert unmet == [], "run `make lock`"


@pytest.mark.parametrize("lock", ["requirements-server.lock", "requirements-trainer.lock"])
def test_an_image_installs_the_versions_that_are_tested(lock: str) -> None:
    tested = read_lock("requirements.lock")
    installed = read_lock(lock)
    assert {name: tested[name] for name in installed} == installed


def test_the_server_installs_without_paddle() -> None:
    unwanted = {"paddlepaddle", "paddle2onnx", "onnx", "polars", "pandas", "lightgbm", "scipy"}
    assert unwanted & read_lock("requirements-server.lock").keys() == set()
