"""Every writing route with a body that it takes, and the hostile requests made of both: `cases()`, each to be refused."""

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.http.hostile import ALTERED, EVERYWHERE, OF_KIND, OF_TYPE, QUERIES, UNKNOWN_FIELDS, USER_IDS, WHOLE

NDJSON = "application/x-ndjson"
GET_ASSIGNMENT = "GET /experiments/{id}/assignment/{user_id}"
_MARK = "@@"


@dataclass(frozen=True, slots=True)
class Target:
    """A route, a body that it takes, and what belongs in each place of that body.

    `slots` maps a JSON pointer to "<kind> <types>", the types being s(tring), n(umber), b(oolean), a(rray), o(bject) and
    0 (null); `free` are the pointers of objects that may have any key.
    """

    route: str
    path: str
    good: Any
    slots: Mapping[str, str]
    free: tuple[str, ...] = ()
    media_type: str = "application/json"
    shape: str = ""

    @property
    def name(self) -> str:
        """The route and which of its shapes this is."""
        return f"{self.route} {self.shape}".rstrip()

    @property
    def method(self) -> str:
        """The HTTP method."""
        return self.route.partition(" ")[0]

    def known(self, pointer: str) -> set[str]:
        """The fields that the object at `pointer` may have."""
        return {slot.removeprefix(pointer + "/") for slot in self.slots if slot.startswith(pointer + "/")}


@dataclass(frozen=True, slots=True)
class Case:
    """One hostile request."""

    target: Target
    label: str
    content: bytes

    @property
    def path(self) -> str:
        """Where to send it; `{draft}`, `{running}`, `{archived}` are experiments in that state, `{defined}` and
        `{flag}` are a metric and a flag."""
        return self.target.path + self.content.decode("ascii") if self.target.method == "GET" else self.target.path


_USER = {"user_id": "visitor 1", "context": {"country": "US"}}
_LINK = {"anonymous_id": "visitor 3", "user_id": "user 3"}
_LINK_SLOTS = {"/anonymous_id": "user s", "/user_id": "user s"}
_EVENT = {"user_id": "visitor 1", "event_type": "purchase", "timestamp": "2026-01-31T12:00:00Z", "event_id": "e1",
          "properties": {"price": 10.5, "tags": ["a"]}, "experiment_id": "running"}  # fmt: skip
_ROW = {"user_id": "visitor 1", "variant": "a", "assigned_at": "2026-01-31T12:00:00Z", "context": {"country": "US"}}
_ARMS = [{"name": "a", "traffic_allocation": 50, "is_control": True, "config": {"color": "red"}},
         {"name": "b", "traffic_allocation": 50}]  # fmt: skip
_FIELDS = {"name": "An experiment", "description": "why", "hypothesis": "so", "primary_metric": "purchase",
    "metrics": ["signup"],
           "guardrails": [{"key": "errors", "event_type": "error", "kind": "count"}], "traffic_percentage": 50,
           "targeting": {"countries": ["US"]}, "variants": _ARMS,
           "plan": {"stopping": "group_sequential", "alpha": 0.01, "planned_users": 1_000, "spending": "pocock",
                    "adjust": False},
           "tags": ["web"], "overrides": [{"variant": "a", "users": ["tester"], "targeting": {"countries": ["US"]}}]}  # fmt: skip
_ARM_SLOTS = {"/variants/0/name": "name s", "/variants/0/traffic_allocation": "share n", "/variants/0/is_control": "any b0",
              "/variants/0/config": "any snbao0", "/variants/0/config/color": "any snbao0"}  # fmt: skip
_TEXT_SLOTS = {"/description": "text s0", "/hypothesis": "text s0", "/primary_metric": "type s0", "/metrics": "metrics a0",
               "/metrics/0": "metric s", "/guardrails": "metrics a0", "/guardrails/0": "metric s",
               "/targeting": "targeting o0", "/variants/1": "any", "/plan": "plan o0", "/plan/stopping": "word 0",
               "/plan/alpha": "level", "/plan/planned_users": "planned-users n", "/plan/spending": "word",
               "/plan/adjust": "any b", "/tags/0": "name s", "/overrides/0/variant": "reference",
               "/overrides/0/users/0": "user s", "/overrides/0/targeting": "targeting o0"}  # fmt: skip
_CREATE_SLOTS = _TEXT_SLOTS | _ARM_SLOTS | {"/name": "name s", "/key": "key s0", "/status": "status",
    "/traffic_percentage": "percentage n",
                                            "/variants": "variants"}  # fmt: skip
_PATCH_SLOTS = _TEXT_SLOTS | _ARM_SLOTS | {"/name": "name s0", "/key": "key s0", "/traffic_percentage": "percentage n0",
                                           "/variants": "variants 0", "/version": "version 0"}  # fmt: skip
_EVENT_SLOTS = {"/user_id": "user s", "/event_type": "type s", "/timestamp": "moment 0", "/event_id": "event-id s0",
                "/experiment_id": "reference 0", "/properties": "properties o0", "/properties/price": "any snbao0",
                "/properties/tags/0": "any snbao0"}  # fmt: skip
_ROW_SLOTS = {"/user_id": "user s", "/variant": "reference", "/assigned_at": "past", "/context": "context o0",
              "/context/country": "attribute snb0"}  # fmt: skip
_USER_SLOTS = {"/user_id": "user s", "/context": "context o", "/context/country": "attribute snb0"}
_WHERE = {"attribute": "country", "operator": "eq", "value": "US"}
_COUNT = {"kind": "count", "event_type": "purchase", "where": _WHERE, "value": "price", "delay": "1h", "window": "7d",
          "complete_windows": True, "winsorize": {"lower": 5, "upper": 99, "ignore_zeros": True}, "direction": "decrease",
          "role": "guardrail", "minimum_effect": 0.02, "margin": 0.01, "covariate": "age", "lookback": "30d",
          "name": "Purchases", "description": "why"}  # fmt: skip
_COUNT_SLOTS = {"/kind": "word", "/event_type": "type s", "/where": "targeting o0", "/value": "type s0",
                "/delay": "duration 0", "/window": "duration", "/complete_windows": "any b0", "/winsorize": "winsorize 0",
                "/winsorize/lower": "percentile n0", "/winsorize/upper": "percentile n0", "/winsorize/ignore_zeros": "any b",
                "/direction": "word 0", "/role": "word 0", "/minimum_effect": "effect n0", "/margin": "effect 0",
                "/covariate": "type s0", "/lookback": "duration 0", "/name": "text s0", "/description": "text s0"}  # fmt: skip
_RATIO = {"key": "a-ratio", "kind": "ratio", "numerator": {"of": "sum", "event_type": "click", "where": _WHERE, "value": "x"},
          "denominator": {"of": "count", "event_types": ["view", "scroll"]}}  # fmt: skip
_RATIO_SLOTS = {"/key": "metric-key s", "/numerator": "source", "/numerator/of": "word", "/numerator/event_type": "type s",
                "/numerator/where": "targeting o0", "/numerator/value": "type s0", "/denominator": "source",
                "/denominator/of": "word", "/denominator/event_types": "event-types a",
                "/denominator/event_types/0": "type s"}  # fmt: skip
_FUNNEL = {
    "key": "a-funnel",
    "kind": "funnel",
    "steps": [{"event_type": "view", "where": _WHERE}, {"event_type": "order"}],
}
_FUNNEL_SLOTS = {
    "/steps": "steps",
    "/steps/0": "source",
    "/steps/0/event_type": "type s",
    "/steps/0/where": "targeting o0",
}
_QUANTILE = {"key": "p90", "kind": "quantile", "event_type": "load", "level": 0.9, "per": "user", "of": "sum"}
_QUANTILE_SLOTS = {"/level": "level", "/per": "word", "/of": "word 0"}
_THRESHOLD = {"key": "big", "kind": "threshold", "event_type": "order", "of": "sum", "at_least": 100}
_THRESHOLD_SLOTS = {"/of": "word 0", "/at_least": "amount n"}
_MEASURED = {"metric": "purchase", "entry": ["visit"], "history_days": 7, "users_per_day": 100.5, "variants": [3, 1], "looks": 4,
             "alpha": 0.05, "power": 0.8, "stopping": "group_sequential", "spending": "pocock", "relative_effect": 0.05,
             "users": 1000, "adjust": True}  # fmt: skip
_MEASURED_SLOTS = {"/metric": "metric s", "/entry": "event-types as", "/entry/0": "type s", "/history_days": "version n",
                   "/users_per_day": "amount n0", "/variants": "arms an", "/alpha": "level n", "/power": "level n",
                   "/stopping": "word", "/spending": "word", "/looks": "version n0", "/relative_effect": "change n0",
                   "/users": "planned-users n0", "/adjust": "any b"}  # fmt: skip
_GIVEN = {
    "baseline": {"value": 12, "standard_deviation": 40, "users_per_day": 100, "variance_reduction": 0.2},
    "kind": "sum",
    "absolute_effect": -0.5,
    "run_for_days": 14,
}
_GIVEN_SLOTS = {"/baseline": "any", "/baseline/value": "any n", "/baseline/standard_deviation": "amount n",
                "/baseline/users_per_day": "amount n0", "/baseline/variance_reduction": "reduction n", "/kind": "word 0",
                "/absolute_effect": "change n0", "/run_for_days": "version n0"}  # fmt: skip


_FLAG = {"type": "boolean", "default": False, "description": "why", "enabled": True,
         "experiment": {"key": "running", "values": {"a": True}},
         "rollout": {"value": True, "targeting": {"countries": ["US"]}, "steps": [{"percentage": 5}]}}  # fmt: skip
_FLAG_SLOTS = {"/type": "word", "/default": "any b", "/description": "text s0", "/enabled": "any b0",
               "/experiment/key": "reference s", "/experiment/values/a": "any b", "/rollout/value": "any b",
               "/rollout/targeting": "targeting o0", "/rollout/steps/0/percentage": "percentage n"}  # fmt: skip
_FLAG_FREE = ("/experiment/values",)
_SHOWN = {"user_id": "visitor 1", "experiment": "running", "variant": "a", "exposed_at": "2026-01-31T12:00:00Z",
          "context": {"country": "US"}}  # fmt: skip
_SHOWN_SLOTS = {"/user_id": "user s", "/experiment": "reference", "/variant": "reference", "/exposed_at": "sent 0",
                "/context": "context o0", "/context/country": "attribute snb0"}  # fmt: skip


def _below(prefix: str, slots: Mapping[str, str]) -> dict[str, str]:
    return {prefix + pointer: kind for pointer, kind in slots.items()}


_DEFINE = "POST /metric-definitions"
_DEFINE_PATH = "/metric-definitions"
_IMPORT = "POST /experiments/{id}/import"
_IMPORT_PATH = "/experiments/{running}/import"
TARGETS = (
    Target("POST /experiments", "/experiments", _FIELDS | {"status": "draft"}, _CREATE_SLOTS, ("/variants/0/config",)),
    Target("PATCH /experiments/{id}", "/experiments/{draft}", _FIELDS | {"key": "a-key", "version": 1}, _PATCH_SLOTS,
           ("/variants/0/config",)),
    Target(_DEFINE, _DEFINE_PATH, {"key": "a-count"} | _COUNT, {"/key": "metric-key s"} | _COUNT_SLOTS, shape="(count)"),
    Target(_DEFINE, _DEFINE_PATH, _RATIO, _RATIO_SLOTS, shape="(ratio)"),
    Target(_DEFINE, _DEFINE_PATH, _FUNNEL, _FUNNEL_SLOTS, shape="(funnel)"),
    Target(_DEFINE, _DEFINE_PATH, _QUANTILE, _QUANTILE_SLOTS, shape="(quantile)"),
    Target(_DEFINE, _DEFINE_PATH, _THRESHOLD, _THRESHOLD_SLOTS, shape="(threshold)"),
    Target("PATCH /metric-definitions/{key}", "/metric-definitions/{defined}", _COUNT | {"version": 1},
           _COUNT_SLOTS | {"/version": "version 0"}),
    Target("POST /planner", "/planner", _MEASURED, _MEASURED_SLOTS, shape="(measured)"),
    Target("POST /planner", "/planner", _GIVEN, _GIVEN_SLOTS, shape="(given)"),
    Target("POST /experiments/{id}/assignments", "/experiments/{running}/assignments", {"users": ["visitor 2", _USER]},
           {"/users": "users a", "/users/0": "user s"} | _below("/users/1", _USER_SLOTS), ("/users/1/context",)),
    Target("POST /assignments", "/assignments", _USER, _USER_SLOTS, ("/context",)),
    Target("POST /identities", "/identities", _LINK, _LINK_SLOTS, shape="(one)"),
    Target("POST /identities", "/identities", {"identities": [_LINK]}, {"/identities": "identities"}
           | _below("/identities/0", _LINK_SLOTS), shape="(many)"),
    Target("POST /events", "/events", _EVENT, _EVENT_SLOTS, ("/properties",), shape="(one)"),
    Target("POST /events", "/events", [_EVENT], {"": "events"} | _below("/0", _EVENT_SLOTS), ("/0/properties",),
    shape="(list)"),
    Target("POST /events", "/events", {"events": [_EVENT]}, {"/events": "events", "/sent_at": "sent 0"}
           | _below("/events/0", _EVENT_SLOTS), ("/events/0/properties",), shape="(envelope)"),
    Target("POST /events/batch", "/events/batch", [_EVENT], {"": "events"} | _below("/0", _EVENT_SLOTS), ("/0/properties",)),
    Target(_IMPORT, _IMPORT_PATH, {"assignments": [_ROW]}, {"/assignments": "rows"} | _below("/assignments/0", _ROW_SLOTS),
           ("/assignments/0/context",), shape="(assignments)"),
    Target(_IMPORT, _IMPORT_PATH, {"events": [_EVENT]}, {"/events": "rows"} | _below("/events/0", _EVENT_SLOTS),
           ("/events/0/properties",), shape="(events)"),
    Target(_IMPORT, _IMPORT_PATH, _ROW, _ROW_SLOTS, ("/context",), NDJSON, "(assignment lines)"),
    Target(_IMPORT, _IMPORT_PATH, _EVENT, _EVENT_SLOTS, ("/properties",), NDJSON, "(event lines)"),
    Target("POST /flags", "/flags", {"key": "a-flag"} | _FLAG, {"/key": "key s"} | _FLAG_SLOTS, _FLAG_FREE),
    Target("PATCH /flags/{flag_key}", "/flags/{flag}", {key: value for key, value in _FLAG.items() if key != "type"},
           {pointer: kind for pointer, kind in _FLAG_SLOTS.items() if pointer not in {"/type", "/default"}}
           | {"/version": "version 0"}, _FLAG_FREE),
    Target("POST /layers", "/layers", {"key": "a-layer"}, {"/key": "key s"}, shape="(key)"),
    Target("POST /layers", "/layers", {"key": "named-layer", "name": "A layer"}, {"/key": "key s", "/name": "name s0"},
           shape="(name)"),
    Target("POST /holdouts", "/holdouts", {"key": "a-holdout", "name": "A holdout", "percentage": 5, "tags": ["web"]},
           {"/key": "key s", "/name": "name s0", "/percentage": "percentage n", "/tags/0": "name s"}),
    Target("POST /exposures", "/exposures", {"exposures": [_SHOWN], "sent_at": "2026-01-31T12:00:00Z"},
           {"/sent_at": "sent 0"} | _below("/exposures/0", _SHOWN_SLOTS), ("/exposures/0/context",)),
    *(Target(f"POST /experiments/{{id}}/{action}", f"/experiments/{{archived}}/{action}", {}, {})
      for action in ("start", "pause", "resume", "complete", "archive")),
)  # fmt: skip


def cases() -> Iterator[Case]:
    """Every hostile request."""
    for target in TARGETS:
        good = json.dumps(target.good).encode()
        yield from (Case(target, label, content) for label, content in WHOLE.items())
        yield from (Case(target, label, alter(good)) for label, alter in ALTERED.items())
        for place, (pointer, spec) in enumerate(target.slots.items()):
            yield from _in_slot(target, place, pointer, *spec.partition(" ")[::2])
        for pointer, holder in _objects(target.good):
            yield from _in_object(target, pointer, holder)
    lookup = Target(GET_ASSIGNMENT, "/experiments/{running}/assignment/", None, {})
    yield from (Case(lookup, f"user id: {label}", text.encode()) for label, text in USER_IDS.items())
    yield from (Case(lookup, f"context: {label}", f"visitor?{text}".encode()) for label, text in QUERIES.items())


def _in_slot(target: Target, place: int, pointer: str, kind: str, types: str) -> Iterator[Case]:
    """Values that may not stand at `pointer`. Where any value may, all of EVERYWHERE is tried, elsewhere a quarter in turn."""
    tried = {
        label: text for turn, (label, text) in enumerate(EVERYWHERE.items(), place) if kind == "any" or turn % 4 == 0
    }
    wrong = {f"a {letter}, {text}": text for letter in "snbao0" if letter not in types for text in OF_TYPE[letter]}
    for label, text in (tried | dict(OF_KIND[kind]) | wrong).items():
        fragment = text.encode() if isinstance(text, str) else text
        yield Case(target, f"{pointer}: {label}", _with(target.good, pointer, _MARK, f'"{_MARK}"'.encode(), fragment))


def _in_object(target: Target, pointer: str, holder: Mapping[str, Any]) -> Iterator[Case]:
    """Fields that the object at `pointer` may not have: unknown ones, and those that it has already."""
    key, value = next(iter(holder.items()))
    said = json.dumps(value)
    members = {
        "duplicate": f'"{key}":{said}', "duplicate of another value": f'"{key}":null',
        "duplicate, white space": f'"{key}" \t\r\n : {said}', "duplicate, escaped": f'"\\u{ord(key[0]):04x}{key[1:]}":{said}',
    }  # fmt: skip
    if not pointer.startswith(target.free or " "):
        members |= {
            f"unknown {name}": f'"{name}":"second"' for name in UNKNOWN_FIELDS if name not in target.known(pointer)
        }
    for label, member in members.items():
        content = _with(target.good, f"{pointer}/{_MARK}", 0, f'"{_MARK}": 0'.encode(), member.encode())
        yield Case(target, f"{pointer}: {label}", content)


def _objects(value: Any, pointer: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects of a document that have keys, with their pointers."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if isinstance(value, dict) and value:
        yield pointer, value
    for name, part in parts:
        yield from _objects(part, f"{pointer}/{name}")


def _with(good: Any, pointer: str, value: Any, mark: bytes, fragment: bytes) -> bytes:
    """The JSON text of a document whose place at `pointer` holds a fragment."""
    document = {"root": copy.deepcopy(good)}
    *path, last = ("root" + pointer).split("/")
    holder: Any = document
    for name in path:
        holder = holder[int(name) if isinstance(holder, list) else name]
    holder[int(last) if isinstance(holder, list) else last] = value
    return json.dumps(document["root"]).encode().replace(mark, fragment, 1)
