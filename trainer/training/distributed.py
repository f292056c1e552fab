"""Several processes that train one network together: what each takes, and what they add up.

Each has a share of every batch's pages and the whole network. Losses are own sums over counts of
the whole batch, so that gradients, and what the journal tells, are the sums over processes of
what each has; every process then takes the same step.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import paddle
from paddle import Tensor, distributed
from paddle.base import core

from trainer.encoding.batches import EVERYTHING, Share
from trainer.errors import ConfigError, TeamError
from trainer.training.losses import Count, own_count
from trainer.training.processes import ADDRESS, COUNT, NUMBER, is_placed

_POLL_SECONDS = 0.02
# For the leading process, which is the slowest: another that comes so much later has gone.
_LATEST_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Team:
    """The processes that train one network, and which of them this is.

    The first one leads: it alone writes, evaluates and tells.

    Attributes:
        share: What this process takes of every batch.
    """

    share: Share = EVERYTHING
    _meetings: Iterator[int] = field(default_factory=itertools.count, compare=False)

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.share.count == 1

    @property
    def leads(self) -> bool:
        """Whether this is the first process."""
        return self.share.number == 0

    def meet(self) -> None:
        """Return once every process has come here, however long the leading one takes.

        Raises:
            TeamError: When another process has gone.
        """
        if self.alone:
            return
        # a collective of gloo gives up after 30 seconds, and Paddle has no setting for it
        meeting = f"meeting-{next(self._meetings)}"
        latest = time.monotonic() + (_LATEST_SECONDS if self.leads else math.inf)
        with _lost_as_error(self.share.count):
            store = core.create_or_get_global_tcp_store()
            store.add(meeting, 1)
            while store.add(meeting, 0) < self.share.count:
                if time.monotonic() > latest:
                    raise TimeoutError(f"in {_LATEST_SECONDS:.0f} seconds")
                time.sleep(_POLL_SECONDS)

    @contextlib.contextmanager
    def lead_first(self) -> Iterator[None]:
        """Run a block in the leading process, and then in the others, which find what it left."""
        if not self.leads:
            self.meet()
        yield
        if self.leads:
            self.meet()

    def told_by_lead(self, numbers: Sequence[float]) -> list[float]:
        """Return the numbers that the leading process has given, once all are here."""
        if self.alone:
            return list(numbers)
        self.meet()
        told = paddle.to_tensor(np.asarray(numbers, np.float64))
        with _lost_as_error(self.share.count):
            distributed.broadcast(told, 0)
        return [float(number) for number in told.numpy()]

    def counts(self, losses: Callable[[Count], object]) -> Count:
        """Return what gives each count that losses divide by, summed over processes.

        Args:
            losses: Computes them with a `Count`, asking for the same counts in the same order in
                every process; it is called once more than without a team, to hear the counts, so
                that one message has them all.
        """
        if self.alone:
            return own_count
        heard: list[Tensor] = []

        def hear(count: Tensor) -> Tensor:
            heard.append(count)
            return count

        with paddle.no_grad():
            losses(hear)
            whole = iter(self._summed(paddle.stack(heard)).unbind())
        return lambda _own: next(whole)

    def add_up(self, gradients: list[Tensor], values: Sequence[Tensor] = ()) -> list[Tensor]:
        """Return gradients, and after them scalars, summed over processes in one message."""
        parts = [*gradients, *(value.detach() for value in values)]
        if self.alone or not parts:
            return parts
        whole = self._summed(paddle.concat([part.reshape([-1]) for part in parts]))
        flat = whole.split([max(part.size, 1) for part in parts])
        return [one.reshape(part.shape) for one, part in zip(flat, parts, strict=True)]

    def _summed(self, values: Tensor) -> Tensor:
        with _lost_as_error(self.share.count):
            distributed.all_reduce(values)
        return values


ALONE = Team()


@contextlib.contextmanager
def _lost_as_error(count: int) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:  # as Paddle tells of a closed connection
        raise TeamError(
            f"processes: got no answer from another one ({_last_line(error)}), want all {count} "
            f"at work; the same command goes on from the last checkpoint"
        ) from error


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def joined_team(environment: MutableMapping[str, str]) -> Team:
    """Return the team that the variables of Paddle's launcher name; alone without them.

    Args:
        environment: That of the process, from where Paddle reads too; what it asks for beside
            number, count and address is added.

    Raises:
        ConfigError: When the variables contradict themselves.
        TeamError: When the others cannot be reached.
    """
    if not is_placed(environment):
        return ALONE
    share = _share_of(environment)
    address = environment.get(ADDRESS, "")
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"{ADDRESS}: got {address!r}, want HOST:PORT of the first process")
    environment["PADDLE_DISTRI_BACKEND"] = "gloo"
    environment.setdefault("PADDLE_CURRENT_ENDPOINT", f"{host}:{int(port) + 1 + share.number}")
    with contextlib.ExitStack() as stack:
        stack.enter_context(_lost_as_error(share.count))
        for redirected in (contextlib.redirect_stdout, contextlib.redirect_stderr):
            stack.enter_context(redirected(io.StringIO()))  # Paddle prints its flags
        distributed.init_parallel_env()
    return Team(share)


def _share_of(environment: MutableMapping[str, str]) -> Share:
    count, number = environment[COUNT], environment.get(NUMBER, "")
    if not count.isdecimal() or int(count) < 1:
        raise ConfigError(f"{COUNT}: got {count!r}, want a number of processes")
    if not number.isdecimal() or int(number) >= int(count):
        raise ConfigError(f"{NUMBER}: got {number!r}, want 0 to {int(count) - 1}, each once")
    return Share(int(number), int(count))
