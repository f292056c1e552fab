"""Starts the command line; its commands are in `rerank_server.commands`."""

from __future__ import annotations

import sys

from rerank_server.commands.root import main

if __name__ == "__main__":
    sys.exit(main())
