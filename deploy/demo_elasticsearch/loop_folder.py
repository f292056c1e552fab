"""Where the demo of the loop keeps its things, and what of it is done."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trainer.atomic_text import write_text


@dataclass(slots=True)
class Done:
    """What earlier calls have left, step by step; empty where a step has not come to its end.

    Attributes:
        key: Hash of what it was made from.
        rounds: How many rounds of traffic and learning were begun.
        traffic: When the traffic of the newest round was, and what it came to.
        learned: What its round of learning did.
        canary: What the traffic after it came to.
        quality: The report on the traffic.
        examples: Searches in both orders.
        commands: What was run, in order: command and seconds.
        serving: Folder and run of the bundle that an earlier round has published and this one
            starts from; empty: that of `make demo`.
    """

    key: str = ""
    rounds: int = 0
    traffic: dict[str, Any] = field(default_factory=dict)
    learned: dict[str, Any] = field(default_factory=dict)
    canary: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)
    commands: list[dict[str, Any]] = field(default_factory=list)
    serving: dict[str, str] = field(default_factory=dict)

    def next_round(self) -> Done:
        """Return what is left when another round begins: what was published now serves."""
        serving = self.serving
        candidate = self.learned.get("candidate")
        if self.learned.get("decision") == "canary" and candidate:
            serving = {"folder": candidate["folder"], "run": candidate["run"]}
        return Done(self.key, self.rounds + 1, serving=serving)


@dataclass(frozen=True, slots=True)
class LoopFolder:
    """Paths under the work folder."""

    path: Path

    @property
    def shop(self) -> Path:
        """Catalogue and past purchases of those who search."""
        return self.path / "shop"

    @property
    def logs(self) -> Path:
        """What programs and commands say."""
        return self.path / "logs"

    @property
    def node(self) -> Path:
        """Elasticsearch's."""
        return self.path / "node"

    @property
    def spool(self) -> Path:
        """The telemetry's."""
        return self.path / "spool"

    @property
    def pictures(self) -> Path:
        """Of the dashboards."""
        return self.path / "pictures"

    @property
    def page(self) -> Path:
        """The page as a file."""
        return self.path / "loop.html"

    def learning(self, number: int) -> Path:
        """Tables, runs and bundles of one round."""
        return self.path / "rounds" / f"{number}"

    def truth(self, number: int) -> Path:
        """What the simulated shoppers of one round truly wanted."""
        return self.path / f"truth-{number}.jsonl"

    def key_file(self) -> Path:
        """The key that hashes shoppers, made on the first call."""
        path = self.path / "shopper.key"
        if not path.exists():
            write_text(path, f"{secrets.token_hex(16)}\n")
            path.chmod(0o600)
        return path

    def done(self, key: str) -> Done:
        """Return what earlier calls with an equal key have left."""
        try:
            done = Done(**json.loads((self.path / "done.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return Done(key)
        return done if done.key == key else Done(key, done.rounds)

    def keep(self, done: Done) -> None:
        """Remember what is done."""
        write_text(self.path / "done.json", json.dumps(asdict(done), indent=1))
