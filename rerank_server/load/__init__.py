"""A small load generator against a running server, for a look; benchmarks use a larger one."""
