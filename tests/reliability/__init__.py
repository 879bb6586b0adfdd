"""What goes wrong around the library, and what must hold then; docs/explanation/reliability.md."""
