"""A shop's log: its tables, their checks, and the pages made of it."""
