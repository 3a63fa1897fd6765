"""The error of every port whose state the nodes share."""

from __future__ import annotations


class Unavailable(Exception):
    """The shared state did not take the call, or did not answer in time: it may have happened, may
    happen yet, or never. The text says what came and what to do; it holds no secrets."""


class Refused(Unavailable):
    """It is there and will not have us, or is not as it must be: waiting does not help."""
