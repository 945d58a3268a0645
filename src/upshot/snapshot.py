"""A snapshot: what is needed to decide without asking anybody. The server writes one, every SDK reads it.

The document (`GET /sdk/config`), format 1; vectors of it and of decisions are in `vectors/decisions.json`:

    {"format": 1,
     "experiments": [{"id", "key", "status": "running" | "paused" | "completed" | "draft", "phase": 1, "salt",
                      "traffic": 1000000, "targeting": {…},
                      "variants": [{"id", "name", "is_control", "weight", "config"}],     in the order of their positions
                      "layers": [{"salt", "ranges": [[0, 500000]]}], "holdouts": [{"salt", "share": 50000}],
                      "overrides": [{"variant": "blue", "users": ["16 hexadecimal digits"], "targeting": {…} | null}],
                      "winner": "blue" | null}],
     "flags": [{"key", "type": "boolean", "default": false, "enabled": true, "salt",
                "experiment": "its id" | null, "values": {"blue": true},
                "rollout": {"value": true, "targeting": {…}, "steps": [{"at": "2026-12-01T00:00:00+00:00" | null,
                                                                        "share": 100000}]} | null}]}

Shares are in millionths. A reader takes what it does not know as absent; a document of another format it refuses.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from upshot import flags, targeting
from upshot.assignment import Decider, Forced, Held, Slot, Terms
from upshot.errors import Malformed
from upshot.flags import Evaluation, Flag, Kind, Rollout, Step

FORMAT = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Arm:
    """A variant as a snapshot has it."""

    id: str
    name: str
    is_control: bool
    config: Any


@dataclass(frozen=True, slots=True)
class Entry:
    """An experiment as a snapshot has it, and its decisions."""

    id: str
    key: str
    status: str
    phase: int
    arms: tuple[Arm, ...]
    winning: str | None
    decide: Decider[Arm] = field(repr=False, compare=False)

    @property
    def is_paused(self) -> bool:
        """Whether it is paused."""
        return self.status == "paused"

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        return self.status == "running"

    def holds_out(self, user_id: str) -> bool:
        """Whether a holdout keeps the user from it."""
        return self.decide.holds_out(user_id)

    def arm_called(self, name: str) -> Arm | None:
        """The variant of that name or id."""
        return next((arm for arm in self.arms if name in {arm.name, arm.id}), None)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Experiments by key and by id, and flags by key."""

    experiments: Mapping[str, Entry] = field(default_factory=dict)
    flags: Mapping[str, Flag] = field(default_factory=dict)

    def evaluate(self, key: str, user_id: str, context: Mapping[str, object], now: datetime) -> Evaluation | None:
        """The value of a flag for a user whose variant is not stored; None when there is no such flag."""
        flag = self.flags.get(key)
        if flag is None:
            return None
        driver = self.experiments.get(flag.experiment) if flag.experiment else None
        decision = driver.decide(user_id, context) if driver else None
        return flags.evaluate(flag, user_id, context, now, driver, decision)


def read(document: Any) -> Snapshot:
    """The snapshot of a document.

    Raises:
        Malformed: it is none, or of a format that is not known here.
    """
    try:
        if document["format"] != FORMAT:
            raise Malformed("The configuration is of a format that is not known here.")
        entries = [_entry(raw) for raw in document["experiments"]]
        found = [_flag(raw) for raw in document["flags"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Malformed("The configuration cannot be read.") from error
    known = {entry.id: entry for entry in entries} | {entry.key: entry for entry in entries}
    return Snapshot(known, {flag.key: flag for flag in found})


def _entry(raw: Mapping[str, Any]) -> Entry:
    arms = tuple(Arm(arm["id"], arm["name"], arm["is_control"], arm["config"]) for arm in raw["variants"])
    names = [arm.name for arm in arms]
    terms = Terms(
        salt=raw["salt"],
        running=raw["status"] == "running",
        weights=tuple(arm["weight"] for arm in raw["variants"]),
        traffic=raw["traffic"],
        rule=targeting.parse(raw["targeting"]),
        slots=tuple(
            Slot("", slot["salt"], tuple((start, end) for start, end in slot["ranges"])) for slot in raw["layers"]
        ),
        holdouts=tuple(Held("", held["salt"], held["share"]) for held in raw["holdouts"]),
        forced=tuple(
            Forced(
                names.index(each["variant"]),
                frozenset(each["users"]),
                targeting.parse(each["targeting"]) if each["targeting"] else None,
            )
            for each in raw["overrides"]
        ),
    )
    return Entry(raw["id"], raw["key"], raw["status"], raw["phase"], arms, raw["winner"], Decider(terms, arms))


def _flag(raw: Mapping[str, Any]) -> Flag:
    rollout = raw["rollout"]
    return Flag(
        id=raw["salt"],
        key=raw["key"],
        description="",
        kind=Kind(raw["type"]),
        default=raw["default"],
        enabled=raw["enabled"],
        created_at=_EPOCH,
        updated_at=_EPOCH,
        experiment=raw["experiment"],
        values=raw["values"],
        rollout=rollout and Rollout(rollout["value"], _steps(rollout["steps"]), targeting.parse(rollout["targeting"])),
    )


def _steps(raw: Iterable[Mapping[str, Any]]) -> tuple[Step, ...]:
    return tuple(Step(step["at"] and datetime.fromisoformat(step["at"]), step["share"]) for step in raw)


def describe_flag(flag: Flag) -> dict[str, Any]:
    """A flag as the document has it."""
    rollout = flag.rollout
    return {
        "key": flag.key,
        "type": str(flag.kind),
        "default": flag.default,
        "enabled": flag.enabled,
        "salt": flag.id,
        "experiment": flag.experiment,
        "values": dict(flag.values),
        "rollout": rollout
        and {
            "value": rollout.value,
            "targeting": targeting.dump(rollout.rule),
            "steps": [{"at": step.at and step.at.isoformat(), "share": step.share} for step in rollout.steps],
        },
    }


def describe_terms(terms: Terms, names: Sequence[str]) -> dict[str, Any]:
    """What the decisions of an experiment depend on, as the document has it; `names` are those of its variants."""
    return {
        "salt": terms.salt,
        "traffic": terms.traffic,
        "targeting": targeting.dump(terms.rule),
        "layers": [{"salt": slot.salt, "ranges": [list(each) for each in slot.ranges]} for slot in terms.slots],
        "holdouts": [{"salt": held.salt, "share": held.share} for held in terms.holdouts],
        "overrides": [
            {
                "variant": names[each.index],
                "users": sorted(each.users),
                "targeting": each.rule and targeting.dump(each.rule),
            }
            for each in terms.forced
        ],
    }
