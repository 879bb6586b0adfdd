"""Faults: servers that are killed or replaced, bad networks, and all of it at once for long."""
