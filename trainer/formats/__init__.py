"""Data folders of five known formats, turned into pages to rank."""
