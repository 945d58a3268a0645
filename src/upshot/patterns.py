"""Regular expressions that mean the same in every engine that may read them, and what searching with one can cost."""

import re
from typing import Final

_PART: Final = re.compile(  # possessive, so that this pattern itself cannot be slow
    r"""[^\\\[\](){}*+?|^$.] | [|^$.] | \((?!\?) | \(\?: | \)(?![*+{]) | \\[dDwWsSbB^$\\.*+?()\[\]{}|/-]
    | (?: [*+?] | \{[0-9]{1,3}(?:,[0-9]{0,3})?\} )\??+(?!\+)
    | \[\^?+(?: [^\\\[\]&~|-] | ([&~|-])(?!\1) | \\[dDwWsS^$\\.*+?()\[\]{}|/-] )++\]""",
    re.VERBOSE,
)


def is_portable(pattern: str) -> bool:
    """Whether a pattern uses only what all engines share."""
    return not _PART.sub("", pattern)


def steps(pattern: str, searched: int) -> int:
    """Bound the work of a backtracking search of a text: starts, times ways through the pattern, times its length."""
    length, ways, branches = len(pattern), 1, [1]
    for part in (found[0] for found in _PART.finditer(pattern)):
        if part[0] == "(":
            branches.append(1)
        elif part == ")":
            ways *= branches.pop()
        elif part == "|":
            branches[-1] += 1
        elif part[0] in "*+?":
            ways *= 2 if part[0] == "?" else searched
        elif part[0] == "{":
            least, comma, most = part.strip("{}?").partition(",")
            length += int(most or least)
            ways *= int(most) - int(least) + 1 if most else searched if comma else 1
    starts = 1 if pattern[0] == "^" and branches == [1] else searched
    return starts * ways * branches[0] * length
