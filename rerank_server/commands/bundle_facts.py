"""What a bundle says of itself, as JSON values, and how two of them differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rerank_server.contract.bundle import read_bundle


def bundle_facts(folder: Path) -> dict[str, Any]:
    """Return what the bundle in `folder` holds.

    Raises:
        BundleError: When it is not whole.
    """
    bundle = read_bundle(folder)
    manifest, schema = bundle.manifest, bundle.schema
    return {
        "bundle_id": manifest.bundle_id,
        "created": manifest.created,
        "trainer_commit": manifest.trainer_commit,
        "objectives": list(schema.objectives),
        "objective_outputs": {output.name: output.meaning for output in manifest.objectives},
        "surfaces": list(schema.surfaces),
        "categories": list(schema.categories[1:]),
        "signals": [signal.name for signal in schema.signals],
        "event_kinds": list(schema.event_kinds),
        "features": [feature.name for feature in schema.features],
        "golden_pages": len(bundle.golden.pages),
        "tolerance": manifest.tolerance,
        "widths": asdict(manifest.widths),
        "objective_weights": manifest.objective_weights,
        "figures": manifest.figures,
        "guard": _guard(folder),
        "files": manifest.files,
    }


def _guard(folder: Path) -> dict[str, str]:
    """Return what serves each surface and category and why, as the report has it; it may not."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return {
        f"{row['surface']} {row['category']}": f"{row['choice']}: {row['reason']}"
        for row in report.get("guard", [])
    }


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return the facts that differ, in the order of `one`; None where one has no such fact."""
    names = [*one, *(name for name in other if name not in one)]
    return [
        (name, one.get(name), other.get(name)) for name in names if one.get(name) != other.get(name)
    ]
