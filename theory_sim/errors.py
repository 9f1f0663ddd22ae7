"""Errors for people: which value, what was expected, the legal choices, the nearest match."""

import difflib
from collections.abc import Iterable


class RequestError(ValueError):
    """A request that cannot be carried out; its message is one line for the person who made it."""


class StoreError(RequestError):
    """A results folder that cannot be read, written or reused; its message says what differs."""


def unknown(kind: str, name: object, choices: Iterable[str]) -> RequestError:
    """Return the error for a `name` that is not among the legal `choices` of its `kind`."""
    legal = sorted(str(choice) for choice in choices)
    close = difflib.get_close_matches(str(name), legal, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    listed = ", ".join(legal) if legal else "none"
    return RequestError(f"unknown {kind} {str(name)!r}{hint} Legal: {listed}".replace("?;", "?"))
