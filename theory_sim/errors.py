"""Errors for people: which value, what was expected, the legal choices, the nearest match."""

import difflib
from collections.abc import Iterable


class RequestError(ValueError):
    """A request that cannot be carried out; its message is one line for the person who made it."""


class StoreError(RequestError):
    """A results folder that cannot be read, written or reused; its message says what differs."""


MOST = 12
"""Choices listed at most: of more, those alone that are like the name given."""


def unknown(kind: str, name: object, choices: Iterable[str], elsewhere: str = "") -> RequestError:
    """Return the error for a `name` that is not among the legal `choices` of its `kind`.

    `elsewhere` says where else such a name may come from.
    """
    legal = sorted(str(choice) for choice in choices)
    close = difflib.get_close_matches(str(name), legal, n=MOST if len(legal) > MOST else 1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    listed = f"Legal: {', '.join(legal)}" if legal else f"There is no {kind} to choose from"
    if len(legal) > MOST:
        listed = f"Similar of {len(legal)}: {', '.join(close) or 'none'}"
    return RequestError(f"unknown {kind} {str(name)!r}{hint} {listed}{f'; {elsewhere}' if elsewhere else ''}")
