"""The servers that a mesh stands on, started for real on this machine: for `make mesh` and tests."""
