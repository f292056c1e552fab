"""The network: product fusion, shopper sequence, page attention, category adapters."""
