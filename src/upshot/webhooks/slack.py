"""A notice as a message for people, in the form of Slack's incoming webhooks: `{"text": …, "blocks": […]}`.

Names are what a user typed. So everything is plain text in the blocks, the three characters that Slack reads as control are
escaped in the `text` too, and an at sign is cut off from the word behind it: Mattermost and Discord, which show `text`, would
call whom it names.
"""

import json
from typing import Any

from upshot.experiments import Experiment
from upshot.webhooks.occasions import Breach, Mismatch, Notice, Occasion, allocation_of

LINE = 500  # characters before escaping, which can make five of one; Slack takes 3,000 in a block
CHANGES = 10
VALUE = 200
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "@\u200b"})


def message(notice: Notice) -> dict[str, Any]:
    """A notice for people: a headline, then what is known, a line each."""
    lines = [_clipped(line, LINE).translate(_ESCAPES) for line in _lines(notice)]
    blocks = [{"type": "section", "text": {"type": "plain_text", "text": line, "emoji": False}} for line in lines]
    return {"text": "\n".join(lines), "blocks": blocks}


def _lines(notice: Notice) -> list[str]:
    what = f"“{notice.experiment.name}” ({notice.experiment.key})"
    match notice.fact:
        case Breach() as breach:
            lift, lower, upper = _percent(breach.lift, "unknown"), _percent(breach.lower), _percent(breach.upper)
            return [
                f"{what}: the guardrail {breach.metric} is worse in {breach.variant} than in {breach.baseline}.",
                f"Lift {lift}, {breach.confidence_level:.0%} interval {lower} … {upper}.",
            ]
        case Mismatch() as mismatch:
            return [
                f"{what}: users do not arrive in the planned shares (p = {mismatch.p_value:.2g}).",
                *(
                    f"{name}: {users:,} users, {mismatch.expected.get(name, 0):,.0f} expected."
                    for name, users in mismatch.observed.items()
                ),
            ]
        case None:
            return _milestone(what, notice.occasion, notice.experiment)
        case changes:
            more = [f"… and {len(changes) - CHANGES} more."] if len(changes) > CHANGES else []
            shown = [f"{c.field}: {_value(c.before)} → {_value(c.after)}" for c in changes[:CHANGES]]
            return [f"{what} was changed.", *shown, *more]


def _milestone(what: str, occasion: Occasion, experiment: Experiment) -> list[str]:
    shares = ", ".join(f"{name} {share:.4g}%" for name, share in allocation_of(experiment).items())
    if occasion is Occasion.STARTED:
        judged = [f"Primary metric: {experiment.primary_metric}."] if experiment.primary_metric else []
        return [f"{what} has started.", f"New users get: {shares}.", *judged]
    began, ended = experiment.started_at, experiment.ended_at
    ran = [f"It ran for {(ended - began).total_seconds() / 86_400:.1f} days."] if began and ended else []
    return [f"{what} is completed.", *ran]


def _value(value: Any) -> str:
    return _clipped(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), VALUE)


def _percent(fraction: float | None, otherwise: str = "unbounded") -> str:
    return otherwise if fraction is None else f"{fraction:+.1%}"


def _clipped(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
