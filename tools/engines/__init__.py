"""The servers that a mesh stands on, started for real: for `make mesh` and for tests."""
