"""What the steps of the demo of the loop share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deploy.demo.progress import StepDisplay
from deploy.demo.work_folder import WorkFolder
from deploy.demo_elasticsearch.loop_folder import Done, LoopFolder
from deploy.demo_elasticsearch.programs import run_command
from deploy.demo_elasticsearch.settings import LoopDemoSettings

CROSSRANK = "rerank_server"
SEED = 1
# Longer than a shop would wait, for a machine that trains beside it.
TIMEOUT_MS = 5_000


@dataclass(frozen=True, slots=True)
class First:
    """The bundle that serves first.

    Attributes:
        demo: Work folder of `make demo`.
        bundle_id: Its bundle.
        run: Folder of its training run.
        day: Day (UTC) that it is as of.
    """

    demo: WorkFolder
    bundle_id: str
    run: Path
    day: int


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything runs."""

    elasticsearch: str
    server: str
    gateway: str


class LoopDemo:
    """What the steps share."""

    def __init__(
        self, settings: LoopDemoSettings, folder: LoopFolder, display: StepDisplay
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.display = display
        self.done = Done()

    def run(self, name: str, module: str, arguments: list[str]) -> str:
        """Run a command, note it for the page, and return what it wrote.

        Raises:
            CommandFailedError: It failed.
        """
        ran = run_command(module, arguments, self.folder.logs / f"{name}.log", self.display.say)
        self.display.say(f"{ran.command[:200]}  ({ran.seconds:.1f} s)")
        self.done.commands.append({"command": ran.command, "seconds": round(ran.seconds, 1)})
        return ran.output

    def serving(self, first: First) -> tuple[Path, Path]:
        """Return folder and training run of the bundle that serves when this round begins."""
        serving = self.done.serving
        if serving:
            return Path(serving["folder"]), Path(serving["run"])
        return first.demo.path, first.run
