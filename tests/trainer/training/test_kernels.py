"""Tests of the choice of matrix kernels."""

from __future__ import annotations

from pathlib import Path

from trainer.training.kernels import prefer_fast_kernels


def _cpu(folder: Path, vendor: str, flags: str) -> Path:
    path = folder / "cpuinfo"
    path.write_text(f"vendor_id\t: {vendor}\nflags\t\t: fpu {flags} sse\n", encoding="utf-8")
    return path


def test_an_amd_processor_with_avx2_gets_the_avx2_kernels(tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    prefer_fast_kernels(environment, _cpu(tmp_path, "AuthenticAMD", "avx avx2 fma"))
    assert environment == {"MKL_DEBUG_CPU_TYPE": "5"}


def test_other_processors_and_a_set_value_are_left_alone(tmp_path: Path) -> None:
    for vendor, flags in (("GenuineIntel", "avx2"), ("AuthenticAMD", "avx")):
        environment: dict[str, str] = {}
        prefer_fast_kernels(environment, _cpu(tmp_path, vendor, flags))
        assert environment == {}
    environment = {"MKL_DEBUG_CPU_TYPE": "4"}
    prefer_fast_kernels(environment, _cpu(tmp_path, "AuthenticAMD", "avx2 fma"))
    assert environment == {"MKL_DEBUG_CPU_TYPE": "4"}


def test_a_machine_that_does_not_describe_its_processor_is_left_alone(tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    prefer_fast_kernels(environment, tmp_path / "absent")
    assert environment == {}
