"""The command line `crossrank`: one module per command group, listed in `root`."""
