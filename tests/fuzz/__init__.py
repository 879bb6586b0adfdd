"""Fuzzing: each target takes any bytes, and fails if an invariant does not hold for them."""
