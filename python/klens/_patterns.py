"""Name patterns: `*` stands for any text, `?` for one character. A pattern that a layer's name matches with or without its
".weight" (or "[3]" of an expert) matches the layer."""

from __future__ import annotations

import re
from collections.abc import Iterable

_END = r"(\.weight)?(\[[^\]]*\])?$"


def listed(patterns: str | Iterable[str] | None) -> list[str]:
    """One pattern or several, as a list."""
    if patterns is None:
        return []
    return [patterns] if isinstance(patterns, str) else list(patterns)


def _text(pattern: str, star: str = ".*") -> str:
    return "".join(star if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)


def expression(pattern: str) -> str:
    """The pattern as a regular expression that is searched in a name."""
    return "^" + _text(pattern) + _END


def group_expression(patterns: list[str]) -> str:
    """Layers that match one of the patterns share a scheme if what the first `*` stands for is the same: with "*q_proj" and
    "*k_proj" those of each block. A first `*` at the end of its pattern tells nothing apart."""
    heads, tails = zip(*(pattern.partition("*")[::2] for pattern in patterns))
    if len(set(heads)) != 1:
        raise ValueError(f"together: {', '.join(patterns)} do not begin alike up to their first *; give them in lists of their own")
    star = "(.*)" if all(tails) and "*" in patterns[0] else ".*" if "*" in patterns[0] else ""
    return f"^{_text(heads[0])}{star}(?:{'|'.join(_text(tail) for tail in tails)}){_END.replace('(', '(?:')}"


def matches(name: str, pattern: str) -> bool:
    return re.search(expression(pattern), name) is not None
