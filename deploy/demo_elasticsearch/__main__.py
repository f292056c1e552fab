"""`make demo-elasticsearch`: one command from a bundle to a loop that has gone round once."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path

from deploy.demo.children import Stopped, end_forks_with_this_process, stop_on_signals
from deploy.demo_elasticsearch.settings import LoopDemoSettings, read_settings
from rerank_server.contract.errors import RerankError
from trainer.training.kernels import prefer_fast_kernels


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit status: 0 done, 1 an error it names, 2 wrong usage.

    A signal that ends it gives 128 + its number, as in a shell.
    """
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # bars are of no use in a file
    prefer_fast_kernels(os.environ)
    stop_on_signals()
    end_forks_with_this_process()
    warnings.filterwarnings("ignore")  # of libraries; ours are errors in the tests
    logging.getLogger("elastic_transport").setLevel(logging.WARNING)  # else a line a request
    settings = LoopDemoSettings()
    try:
        settings = read_settings(arguments)
        from deploy.demo_elasticsearch.steps import run_loop_demo  # noqa: PLC0415  usage first

        run_loop_demo(settings)
    except Stopped as stopped:
        _complain("stopped; nothing is left running, the same command goes on from here")
        return stopped.status
    except RerankError as error:
        _complain(str(error))
        return 1
    except OSError as error:
        path = error.filename or settings.work
        _complain(f"{path}: got {error.strerror or error}, want room and rights to write")
        return 1
    except Exception as error:  # noqa: BLE001  a defect: one line here, the rest in a file
        _complain(f"a defect ({type(error).__name__}: {error}); {_keep_traceback(settings.work)}")
        return 1
    return 0


def _complain(text: str) -> None:
    """Write one line, whatever the text holds."""
    print(f"demo-elasticsearch: {' '.join(text.split())}", file=sys.stderr)


def _keep_traceback(work: Path) -> str:
    path = work / "defect.log"
    try:
        path.write_text(traceback.format_exc(), encoding="utf-8")
    except OSError as error:
        return f"its traceback could not be written: {error.strerror}"
    return f"its traceback is in {path}"


if __name__ == "__main__":
    sys.exit(main())
