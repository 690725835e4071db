"""When a scan may stop: what `stop=` takes, beside the text of the same form."""

from __future__ import annotations


def top(count: int) -> str:
    """Which are the `count` worst layers of each scheme? Candidates leave as soon as their side is settled."""
    return f"top:{int(count)}"


def split(share: float = 0.5) -> str:
    """Which layers are among the worst `share` of each scheme?"""
    return f"split:{float(share)!r}"


def order(tau: float = 0.95) -> str:
    """Stop when the order is expected to reach this Kendall's tau with that of all tokens."""
    return f"order:{float(tau)!r}"


def budget(forwards: float | None = None, seconds: float | None = None) -> str:
    """As many sequences as so many forwards, or seconds, allow."""
    if (forwards is None) == (seconds is None):
        raise ValueError("budget: give forwards or seconds, one of the two")
    return f"budget:{float(forwards)!r}" if seconds is None else f"budget:{float(seconds)!r}s"
