"""The command `crossrank`: its groups by name, and what becomes of their errors.

Exit statuses: 0 done, 1 an error that is named, 2 wrong usage, 130 interrupted. A group's module is
imported when it is asked for, so that starting the server never waits for the others.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from rerank_server.commands.options import read_cheaply
from rerank_server.contract.errors import RerankError
from rerank_server.version import server_version

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130
# Typer gives them to every application; completion is installed for the whole program.
_OF_THE_ROOT = {"install_completion", "show_completion"}
_LEAVE_ARGUMENTS = {"ignore_unknown_options": True, "allow_extra_args": True}


class CommandError(RerankError):
    """A command that cannot run on this installation."""


@dataclass(frozen=True, slots=True)
class Group:
    """One command or group of commands.

    Attributes:
        name: What the user types.
        module: Holds `app`, the Typer application of the group.
        extra: The extra of the package that brings what the module imports; empty for none.
    """

    name: str
    module: str
    extra: str = ""


GROUPS = (
    Group("serve", "rerank_server.commands.serve"),
    Group("rerank", "rerank_server.commands.rerank"),
    Group("bundle", "rerank_server.commands.bundle"),
    Group("store", "rerank_server.commands.store"),
    Group("policy", "rerank_server.commands.policy"),
    Group("token", "rerank_server.commands.token"),
    Group("gateway", "rerank_server.commands.gateway", "gateway"),
    Group("es", "rerank_server.commands.es", "search"),
    Group("simulate", "rerank_server.commands.simulate", "search,trainer"),
    Group("learn", "rerank_server.commands.learn", "search,trainer"),
    Group("quality", "rerank_server.commands.quality", "search,trainer"),
    Group("bench", "rerank_server.commands.bench"),
    Group("benchmark", "rerank_server.commands.benchmark", "trainer"),
    Group("doctor", "rerank_server.commands.doctor"),
)


class _Commands(MutableMapping[str, Any]):
    """Imports a group when it is looked up; those whose module is not installed are left out."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self._groups = {group.name: group for group in groups if _is_installed(group.module)}
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - a command of Typer's own Click
        if name not in self._loaded:
            self._loaded[name] = _load(self._groups[name])
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:  # noqa: ANN401 - the same
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._groups[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)

    def __contains__(self, name: object) -> bool:
        return name in self._groups


class _Root(TyperGroup):
    """The group of all groups."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - Typer's
        super().__init__(**options)
        self.commands = _Commands(GROUPS)

    def get_help_option(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # noqa: ANN401
        """Return the option --help."""
        return read_cheaply(super().get_help_option(ctx))

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # noqa: ARG002 - Click passes it
        """Return the names without importing anything."""
        return list(self.commands)


app = typer.Typer(
    name="crossrank",
    cls=_Root,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 done, 1 an error that is named, 2 wrong usage, 130 interrupted.",
)


def _write_version(asked: bool) -> None:  # noqa: FBT001 - Typer calls it
    if asked:
        typer.echo(f"crossrank {server_version()}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_write_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Reranks e-commerce search results across categories."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1, 2 or 130, as the module says."""
    try:
        status = _command().main(arguments, prog_name="crossrank", standalone_mode=False)
    except RerankError as error:
        typer.echo(f"crossrank: {error}", err=True)
        return FAILED
    except typer.TyperException as error:
        return _refuse_usage(error)
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    if status == INTERRUPTED:
        typer.echo("crossrank: interrupted", err=True)
    return status if isinstance(status, int) else DONE


def _command() -> Any:  # noqa: ANN401 - a command of Typer's own Click
    command = get_command(app)
    for option in command.params:
        if option.name in _OF_THE_ROOT:
            read_cheaply(option)
    return command


def _refuse_usage(error: typer.TyperException) -> int:
    context, message = getattr(error, "ctx", None), error.format_message()
    if message:  # empty where the help was shown instead
        typer.echo(f"crossrank: {message}", err=True)
        if context is not None:
            typer.echo(f"try `{context.command_path} --help`", err=True)
    return error.exit_code


def _is_installed(module: str) -> bool:
    return find_spec(module) is not None


def _load(group: Group) -> Any:  # noqa: ANN401 - a command of Typer's own Click
    """Return the command of a group, or one that says what the group lacks."""
    try:
        module = import_module(group.module)
    except ImportError as error:
        return _missing(group, error)
    command = get_command(module.app)
    command.name = group.name
    command.params = [item for item in command.params if item.name not in _OF_THE_ROOT]
    return command


def _missing(group: Group, error: ImportError) -> TyperCommand:
    install = f"`pip install 'crossrank[{group.extra}]'`" if group.extra else "a whole installation"
    message = f"{group.name}: got no module {error.name!r}, want {install}"

    from rich.markup import escape

    def refuse() -> None:
        raise CommandError(message)

    return TyperCommand(
        name=group.name,
        callback=refuse,
        help=escape(f"Not installed: {message}."),  # or [search] would be read as markup
        context_settings=dict(_LEAVE_ARGUMENTS),
        add_help_option=False,
    )
