"""The learning benchmark on public data sets."""
