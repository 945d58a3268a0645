"""The one scale of words for evidence, shared by fixed, always-valid and Bayesian results."""


def word(p_value: float | None, alpha: float = 0.05) -> str | None:
    """ "significant" (p <= alpha), "high" (p <= .10), "medium" (p <= .20) or "low"; None when there is no p.

    ``p_value`` is that of the analysis in force: before the planned end the always-valid one, never the fixed
    one, which would call a null result significant in a quarter of all experiments watched daily. Without an
    effect the four words then occur in 5, 5, 10 and 80 % of experiments. Raises ValueError outside [0, 1].
    """
    if p_value is None:
        return None
    if not 0.0 <= p_value <= 1.0:
        raise ValueError(f"a p-value lies between 0 and 1, not {p_value}")
    for limit, name in ((alpha, "significant"), (0.10, "high"), (0.20, "medium")):
        if p_value <= limit:
            return name
    return "low"


def p_value_of_chance(chance_to_beat_control: float) -> float:
    """The two-sided p-value 2 min(c, 1-c) that a chance to beat control under a flat prior stands for.

    Raises ValueError outside [0, 1].
    """
    if not 0.0 <= chance_to_beat_control <= 1.0:
        raise ValueError(f"a chance lies between 0 and 1, not {chance_to_beat_control}")
    return 2.0 * min(chance_to_beat_control, 1.0 - chance_to_beat_control)
