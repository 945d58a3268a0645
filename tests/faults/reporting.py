"""How the fault tests say what they found: into pytest's captured output, zero of N with its bound."""


def say(line: str) -> None:
    """One line of a test's report."""
    print(line)  # noqa: T201


def of(found: int, total: int, what: str) -> str:
    """`found of total what`; for zero with the 95 % upper bound of the rate, 3/N."""
    bound = f" (rate below {3 / total:.1e} with 95 % confidence)" if total and not found else ""
    return f"{found} of {total:,} {what}{bound}"


def percentile(values: list[float], share: float) -> float:
    """The smallest value that is not exceeded by this share of the values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
