"""`crossrank doctor`: says what is wrong with an installation and what to do about it."""

from __future__ import annotations

import inspect
import os
from typing import Annotated

import typer

from rerank_server.commands.options import JsonFlag
from rerank_server.commands.output import write_json, write_text
from rerank_server.commands.setting_flags import EPILOG, SettingsCommand, setting_parameters

app = typer.Typer()
_KEYWORD = inspect.Parameter.KEYWORD_ONLY
_ProviderOption = Annotated[
    str | None,
    typer.Option(
        "--provider", metavar="NAME", help="Execution provider that onnxruntime must have: CUDA."
    ),
]


def _doctor(*, as_json: bool, provider: str | None, **flags: str | None) -> None:
    """Check an installation with the flags of `serve`: exit 1 when a server would not work."""
    from dataclasses import asdict

    from rerank_server.doctor.examination import examine
    from rerank_server.doctor.finding import Grade

    found, shown = [], {Grade.GOOD: "ok     ", Grade.WARNING: "warning", Grade.BROKEN: "broken "}
    for finding in examine(flags, os.environ, provider):
        found.append(finding)
        if not as_json:
            write_text(f"{shown[finding.grade]}  {finding.check}: {finding.found}")
            if finding.advice:
                write_text(f"{'':9}-> {finding.advice}")
    if as_json:
        write_json([asdict(finding) | {"grade": finding.grade.value} for finding in found])
    if any(finding.grade is Grade.BROKEN for finding in found):
        raise typer.Exit(1)


_doctor.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        inspect.Parameter("provider", _KEYWORD, default=None, annotation=_ProviderOption),
        inspect.Parameter("as_json", _KEYWORD, default=False, annotation=JsonFlag),
        *setting_parameters(),
    ]
)
app.command(cls=SettingsCommand, epilog=EPILOG)(_doctor)
