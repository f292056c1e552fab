"""Pages and products as arrays."""
