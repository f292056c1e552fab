"""Where trees or a single-category model replace the network."""
