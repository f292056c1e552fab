"""The bundle: a folder of graphs with the manifest that says what they are and proves it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rerank_server.contract.atomic import atomic_folder
from rerank_server.contract.errors import BundleError, SchemaError
from rerank_server.contract.golden import Golden, golden_from_json, golden_to_json
from rerank_server.contract.outputs import ObjectiveOutput, outputs_from_json, outputs_to_json
from rerank_server.contract.schema import Schema, schema_from_json, schema_to_json
from rerank_server.contract.text import TextEncoder, TextSettings
from rerank_server.contract.vocabulary import (
    Vocabulary,
    vocabulary_from_json,
    vocabulary_to_json,
)

# 2: named vectors of products, and a text encoder with settings of its own.
FORMAT_VERSION = 2
READABLE_VERSIONS = (1, FORMAT_VERSION)
TOLERANCE = 1e-5
MANIFEST_FILE = "manifest.json"
GRAPH_FILES = ("product.onnx", "query.onnx", "scorer.onnx")
BUNDLE_FILES = (*GRAPH_FILES, "vocabulary.json", "tokenizer.json", "golden.json", "report.json")


@dataclass(frozen=True, slots=True)
class Widths:
    """Sizes of vectors.

    Attributes:
        product: Of a product vector.
        query: Of a query vector.
        factors: Of the ALS factors of a product.
    """

    product: int
    query: int
    factors: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle says of itself.

    Attributes:
        bundle_id: SHA-256 of the rest of the manifest, file hashes included.
        created: When the bundle was written, RFC 3339, UTC.
        trainer_commit: Commit of the code that trained it.
        schema: Features, objectives, categories and surfaces.
        objective_weights: Surface -> objective -> weight in the score; every surface and every
            objective of the schema.
        tolerance: Largest difference to Paddle's probabilities on the golden pages.
        widths: Sizes of vectors.
        figures: Evaluation figures by name.
        files: SHA-256 of every other file of the bundle, by name.
        text: How texts become tokens.
        objectives: What each objective of the schema serves; a bundle that does not say serves
            probabilities.
    """

    bundle_id: str
    created: str
    trainer_commit: str
    schema: Schema
    objective_weights: dict[str, dict[str, float]]
    tolerance: float
    widths: Widths
    figures: dict[str, float]
    files: dict[str, str]
    text: TextSettings
    objectives: tuple[ObjectiveOutput, ...]


@dataclass(frozen=True, slots=True)
class BundleContent:
    """What `write_bundle` puts into a bundle.

    Attributes:
        schema: Features, objectives, categories and surfaces.
        objective_weights: Surface -> objective -> weight in the score.
        widths: Sizes of vectors.
        graphs: The serialised graphs by file name, one for each of `GRAPH_FILES`.
        vocabulary: Rows of names.
        tokenizer: A `tokenizer.json` of the `tokenizers` library.
        golden: Pages with Paddle's scores.
        report: The full evaluation, any JSON values.
        figures: Evaluation figures by name.
        trainer_commit: Commit of the code that trained it.
        created: When; with a time zone.
        tolerance: Largest difference to Paddle's probabilities on the golden pages.
        text: How texts become tokens.
        objectives: What each objective of the schema serves; none means probabilities.
    """

    schema: Schema
    objective_weights: Mapping[str, Mapping[str, float]]
    widths: Widths
    graphs: Mapping[str, bytes]
    vocabulary: Vocabulary
    tokenizer: bytes
    golden: Golden
    report: Mapping[str, Any]
    figures: Mapping[str, float]
    trainer_commit: str
    created: datetime
    tolerance: float = TOLERANCE
    text: TextSettings = field(default_factory=TextSettings)
    objectives: Sequence[ObjectiveOutput] = ()


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose files were verified when it was read.

    Attributes:
        folder: Where it lies.
        manifest: What it says of itself.
        graphs: The serialised graphs by file name, as they were verified.
        vocabulary: Rows of names.
        text_encoder: Tokenises texts as in training.
        golden: Pages with Paddle's scores.
    """

    folder: Path
    manifest: Manifest
    graphs: Mapping[str, bytes]
    vocabulary: Vocabulary
    text_encoder: TextEncoder
    golden: Golden

    @property
    def schema(self) -> Schema:
        """The schema of the manifest."""
        return self.manifest.schema


def write_bundle(folder: Path, content: BundleContent) -> Bundle:
    """Write a bundle to `folder`, replacing what is there, and return it as `read_bundle` does.

    The folder appears complete or not at all.

    Raises:
        BundleError: When the parts do not fit each other, or the disk refuses, being full for
            example; `folder` then stays as it was.
    """
    if set(content.graphs) != set(GRAPH_FILES):
        raise BundleError(f"graphs: got {sorted(content.graphs)}, want {sorted(GRAPH_FILES)}")
    contents: dict[str, bytes] = {
        **content.graphs,
        "vocabulary.json": _json_bytes(vocabulary_to_json(content.vocabulary), "vocabulary"),
        "tokenizer.json": content.tokenizer,
        "golden.json": _json_bytes(golden_to_json(content.golden), "golden pages"),
        "report.json": _json_bytes(content.report, "report"),
    }
    value: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "created": content.created.astimezone(UTC).isoformat(timespec="seconds"),
        "trainer_commit": content.trainer_commit,
        "schema": schema_to_json(content.schema),
        "objective_weights": {
            surface: dict(weights) for surface, weights in content.objective_weights.items()
        },
        "tolerance": content.tolerance,
        "widths": asdict(content.widths),
        "figures": dict(content.figures),
        "text": asdict(content.text),
        "files": {name: _sha256(data) for name, data in sorted(contents.items())},
    }
    if content.objectives:
        value["objectives"] = outputs_to_json(content.objectives)
    value["bundle_id"] = _bundle_id(value)
    manifest = _json_bytes(value, "manifest")
    _check_vocabulary(_manifest_from_json(value).schema, content.vocabulary)
    try:
        with atomic_folder(folder) as temporary:
            for name, data in contents.items():
                (temporary / name).write_bytes(data)
            (temporary / MANIFEST_FILE).write_bytes(manifest)
    except OSError as error:
        raise BundleError(
            f"{folder}: got {error.strerror or error}, want room and rights to write a bundle"
        ) from error
    return read_bundle(folder)


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle and verify every file of it.

    Raises:
        BundleError: When a file is missing or changed, the manifest has an unknown or missing
            key, or the format version is another.
    """
    folder = Path(folder)
    data = _read_file(folder / MANIFEST_FILE)
    value = _parse(data, str(folder / MANIFEST_FILE))
    manifest = _manifest_from_json(value)
    if data != _json_bytes(value, "manifest"):
        raise BundleError(f"{folder / MANIFEST_FILE}: got another layout, want it as written")
    contents = {name: _read_file(folder / name) for name in BUNDLE_FILES}
    for name, data in contents.items():
        if (got := _sha256(data)) != manifest.files[name]:
            raise BundleError(
                f"{folder / name}: got sha256 {got}, want {manifest.files[name]} as in the"
                " manifest; the file was changed after the bundle was written"
            )
    vocabulary = vocabulary_from_json(_parse(contents["vocabulary.json"], "vocabulary.json"))
    _check_vocabulary(manifest.schema, vocabulary)
    return Bundle(
        folder=folder,
        manifest=manifest,
        graphs={name: contents[name] for name in GRAPH_FILES},
        vocabulary=vocabulary,
        text_encoder=TextEncoder(contents["tokenizer.json"], manifest.text),
        golden=golden_from_json(_parse(contents["golden.json"], "golden.json"), manifest.schema),
    )


def _manifest_from_json(value: dict[str, Any]) -> Manifest:
    version = value.get("format_version")
    if version not in READABLE_VERSIONS:
        raise BundleError(
            f"manifest.json: got format_version {version!r},"
            f" want {' or '.join(map(str, READABLE_VERSIONS))}"
        )
    known = {"format_version", *(item.name for item in fields(Manifest))}
    if version == 1:
        known -= {"text", "objectives"}
    if not known - {"objectives"} <= set(value) <= known:
        wrong = sorted(set(value) ^ known - ({"objectives"} - set(value)))
        raise BundleError(
            f"manifest.json: got keys {sorted(value)}, want {sorted(known)}; differs in {wrong}"
        )
    if (want := _bundle_id(value)) != value["bundle_id"]:
        raise BundleError(
            f"manifest.json: got bundle_id {value['bundle_id']!r}, want {want} for its content;"
            " the manifest was changed after the bundle was written"
        )
    try:
        schema = schema_from_json(value["schema"])
        manifest = Manifest(
            bundle_id=value["bundle_id"],
            created=value["created"],
            trainer_commit=value["trainer_commit"],
            schema=schema,
            objective_weights=value["objective_weights"],
            tolerance=float(value["tolerance"]),
            widths=Widths(**value["widths"]),
            figures=value["figures"],
            files=value["files"],
            text=TextSettings(**value.get("text", {})),
            objectives=outputs_from_json(value.get("objectives"), schema.objectives),
        )
    except (SchemaError, TypeError, ValueError) as error:
        raise BundleError(f"manifest.json: {error}") from error
    _check_manifest(manifest)
    return manifest


def _check_manifest(manifest: Manifest) -> None:
    if set(manifest.files) != set(BUNDLE_FILES):
        raise BundleError(
            f"manifest.json: got files {sorted(manifest.files)}, want {sorted(BUNDLE_FILES)}"
        )
    for name, figure in manifest.figures.items():
        if not isinstance(figure, int | float):
            raise BundleError(f"figures[{name!r}]: got {figure!r}, want a number")
    schema = manifest.schema
    if set(manifest.objective_weights) != set(schema.surfaces):
        raise BundleError(
            f"objective_weights: got surfaces {sorted(manifest.objective_weights)},"
            f" want {sorted(schema.surfaces)}"
        )
    for surface, weights in manifest.objective_weights.items():
        if set(weights) != set(schema.objectives):
            raise BundleError(
                f"objective_weights of {surface!r}: got {sorted(weights)},"
                f" want {sorted(schema.objectives)}"
            )


def _check_vocabulary(schema: Schema, vocabulary: Vocabulary) -> None:
    for what in ("levels", "attributes"):
        got, want = len(getattr(vocabulary, what)), len(getattr(schema, what))
        if got != want:
            raise BundleError(f"vocabulary {what}: got {got} lists, want {want} as in the schema")


def _bundle_id(value: Mapping[str, Any]) -> str:
    rest = {key: item for key, item in value.items() if key != "bundle_id"}
    return _sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _json_bytes(value: Mapping[str, Any], what: str) -> bytes:
    try:
        text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BundleError(
            f"{what}: got {error}, want plain JSON values, null where a number is missing"
        ) from error
    # numbers one per line make a golden page of 10,000 lines: join the innermost lists
    # (a line break cannot stand inside a JSON string, so no text is touched)
    return re.sub(r"\[\n\s*([^][{}\"]+?)\n\s*\]", _on_one_line, text).encode() + b"\n"


def _on_one_line(match: re.Match[str]) -> str:
    return "[" + " ".join(match.group(1).split()) + "]"


def _parse(data: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{name}: got {error}, want JSON") from error
    if not isinstance(value, dict):
        raise BundleError(f"{name}: got a JSON {type(value).__name__}, want an object")
    return value


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{path}: got {error.strerror or error}, want a readable file of a bundle"
        ) from error
