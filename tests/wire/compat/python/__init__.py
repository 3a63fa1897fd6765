"""Clients in Python; each is a program: `python -m tests.wire.compat.python.NAME TARGET`."""
