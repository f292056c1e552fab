"""What can go wrong in the demo of the loop, each cause with a name of its own."""

from __future__ import annotations

from rerank_server.contract.errors import RerankError


class LoopDemoError(RerankError):
    """Any error of the demo of the loop."""


class LoopDemoSettingsError(LoopDemoError):
    """A command line that the demo cannot follow."""


class TooLittleMemoryError(LoopDemoError):
    """Too little memory for what the demo starts."""


class ProgramError(LoopDemoError):
    """A program that the demo started ended, or did not come up."""


class CommandFailedError(LoopDemoError):
    """A command that the demo ran said no."""


class ElasticsearchMissingError(LoopDemoError):
    """No Elasticsearch can be had here."""


class TelemetryLateError(LoopDemoError):
    """Searches that the gateway answered and that have not come to their stream."""
