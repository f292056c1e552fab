"""The flags of a server's settings, made from `Settings`, for the commands that take them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import fields
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

from rerank_server.commands.options import read_cheaply
from rerank_server.settings import PREFIX, Settings

EPILOG = f"Each flag can be set as {PREFIX}<NAME> in the environment as well."
_NAMES = {setting.name for setting in fields(Settings)}
_SWITCHES = {
    f"--{setting.name.replace('_', '-')}"
    for setting in fields(Settings)
    if setting.default is False
}
_REQUIRED = {"bundle", "products"}


class SettingsCommand(TyperCommand):
    """Takes the texts of settings, and a switch with or without its value."""

    def __init__(self, *, params: Sequence[Any], **options: Any) -> None:  # noqa: ANN401 - Typer's
        super().__init__(
            params=[_as_text(option) if option.name in _NAMES else option for option in params],
            **options,
        )

    def get_help_option(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # noqa: ANN401
        """Return the option --help."""
        return read_cheaply(super().get_help_option(ctx))

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Read `--admin` as `--admin true`."""
        return super().parse_args(ctx, _with_values(args))


def setting_parameters() -> list[inspect.Parameter]:
    """Return one option for each setting, as a command's function would declare it."""
    options = []
    for setting in fields(Settings):
        default = "" if setting.name in _REQUIRED else f" (default {setting.default})"
        option = typer.Option(
            f"--{setting.name.replace('_', '-')}",
            metavar="VALUE",
            help=f"{_setting_help(setting.name)}{default}",
        )
        annotation = Annotated[str | None, option]
        kind = inspect.Parameter.KEYWORD_ONLY
        options.append(inspect.Parameter(setting.name, kind, default=None, annotation=annotation))
    return options


class _SettingOption(TyperOption):
    """Leaves the text as it is: `read_settings` reads flags and variables alike."""

    def process_value(self, ctx: typer.Context, value: Any) -> Any:  # type: ignore[override]  # noqa: ANN401, ARG002 - Click's
        """Return the text."""
        return value


def _as_text(option: TyperOption) -> _SettingOption:
    return _SettingOption(
        param_decls=[option.name, *option.opts],
        type_descriptor=option.type_descriptor,
        metavar=option.metavar,
        help=option.help,
    )


def _with_values(args: Sequence[str]) -> list[str]:
    """Return the arguments with `true` after each switch that has no value."""
    given: list[str] = []
    for number, argument in enumerate(args):
        given.append(argument)
        bare = number + 1 == len(args) or args[number + 1].startswith("-")
        if argument in _SWITCHES and bare:
            given.append("true")
    return given


def _setting_help(name: str) -> str:
    """Return the sentence of the setting's entry in the docstring of `Settings`."""
    lines = (Settings.__doc__ or "").splitlines()
    return next(
        line.split(": ", 1)[1] for line in lines if line.strip().startswith(f"{name}: ")
    ).rstrip(".")
