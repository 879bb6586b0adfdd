"""Mounted in real web servers, each a process of its own."""
