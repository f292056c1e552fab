"""What trainer and server must agree on: pages, schema, feature encoding, bundle files."""
