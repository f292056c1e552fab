"""What every process is told: the steps that change bundles, and the changes of products."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from rerank_server.bundle_store import Bundles, BundleStore
from rerank_server.reranker import Reranker

Folders: TypeAlias = tuple[str, str]
Name: TypeAlias = Literal["load", "divert", "promote", "roll_back"]
# A change of products is acknowledged after this long, whether or not every process shows it.
FOLLOW_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Step:
    """One change of bundles.

    Attributes:
        name: Of the method of `BundleStore`.
        arguments: Its arguments, by name.
    """

    name: Name
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Held:
    """What every process holds; folders of bundle and product store.

    Attributes:
        current: What answers.
        previous: What `roll_back` brings back.
        challenger: What is tried beside it.
        diverted: Arguments of the last `divert`.
    """

    current: Folders
    previous: Folders | None = None
    challenger: Folders | None = None
    diverted: dict[str, Any] | None = None

    def after(self, step: Step) -> Held:
        """Return what is held after a step that every process has taken."""
        arguments = step.arguments
        if step.name == "load":
            folders = (arguments["bundle_path"], arguments["products_path"])
            return replace(self, challenger=folders, diverted=None)
        if step.name == "divert":
            return replace(self, diverted=arguments)
        if step.name == "promote" and self.challenger is not None:
            return Held(self.challenger, previous=self.current)
        if step.name == "roll_back" and self.challenger is not None:
            return replace(self, challenger=None, diverted=None)
        if step.name == "roll_back" and self.previous is not None:
            return Held(self.previous, previous=self.current)
        return self

    def first(self) -> Folders:
        """Return what a process that starts now opens first."""
        return self.previous or self.current

    def catch_up(self) -> list[Step]:
        """Return the steps that lead a process from `first` to here."""
        steps = []
        if self.previous is not None:
            steps += [_load(self.current), Step("promote", {})]
        if self.challenger is not None:
            steps.append(_load(self.challenger))
            if self.diverted is not None:
                steps.append(Step("divert", self.diverted))
        return steps


def _load(folders: Folders) -> Step:
    bundle, products = folders
    return Step("load", {"bundle_path": bundle, "products_path": products})


@dataclass(frozen=True, slots=True)
class Taken:
    """What a step came to.

    Attributes:
        bundles: What this process holds now.
        restarted: How many others could not follow; they are started anew with what it led to.
    """

    bundles: Bundles[Reranker]
    restarted: int = 0


class ServerSteps(Protocol):
    """Changes what a server holds: its own process's, or every process's."""

    async def take(self, step: Step) -> Taken:
        """Take a step in every process and return what it came to.

        Raises:
            BundleChangeError: When the step cannot be taken; what was served is served on.
        """
        ...

    async def follow(self, change: int, timeout_s: float) -> int:
        """Wait until all processes show the changes of products up to a number.

        Returns:
            How many others do not yet after `timeout_s`; they go on trying.
        """
        ...


class OwnSteps:
    """Steps of this process alone."""

    def __init__(self, bundles: BundleStore[Reranker]) -> None:
        """Change what `bundles` holds."""
        self._bundles = bundles

    async def take(self, step: Step) -> Taken:
        """Take a step, in a thread: loading takes seconds.

        Raises:
            BundleChangeError: As `BundleStore`.
        """
        return Taken(await asyncio.to_thread(take_step, self._bundles, step))

    async def follow(self, change: int, timeout_s: float) -> int:  # noqa: ARG002 - the protocol's
        """Return that no other process has to."""
        return 0


def take_step(bundles: BundleStore[Reranker], step: Step) -> Bundles[Reranker]:
    """Take a step of `bundles`.

    Raises:
        BundleChangeError: As `BundleStore`.
    """
    arguments = step.arguments
    if step.name == "load":
        return bundles.load(Path(arguments["bundle_path"]), Path(arguments["products_path"]))
    if step.name == "divert":
        return bundles.divert(
            canary_percent=arguments["canary_percent"], shadow=arguments["shadow"]
        )
    return bundles.promote() if step.name == "promote" else bundles.roll_back()
