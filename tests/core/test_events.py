"""Events: normalised, or refused with a code."""

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshot import events
from upshot.events import CLAMPED, CORRECTED, IMPORTED, LATE, SECOND, SEQUENCES, UNIDENTIFIED, Event, Rejection

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def encode(value: object) -> bytes:
    """JSON."""
    return json.dumps(value).encode()


def normal(sent_at: datetime | None = None, *, imported: bool = False, **fields: Any) -> Event | Rejection:
    """What becomes of an event with these fields."""
    optional = ("event_type", "type", "timestamp", "properties", "experiment_id", "event_id", "session_id", "sequence")
    required = {"user_id": "user", "event_type": "buy", "event_id": "id"}
    raw: Any = SimpleNamespace(**dict.fromkeys(optional) | required | fields)
    receipt = events.receipt(NOW, sent_at, imported=imported)
    return events.normalise(raw, receipt, "made", {"known": "uuid", "foreign": None}, encode)


def taken(sent_at: datetime | None = None, **fields: Any) -> Event:
    """The accepted event."""
    found = normal(sent_at, **fields)
    assert isinstance(found, Event), found
    return found


def micros(**offset: float) -> int:
    """NOW plus an offset, in microseconds."""
    return round((NOW + timedelta(**offset)).timestamp() * SECOND)


def test_an_event_without_time_or_id_gets_both() -> None:
    """It happened when it was received, and is marked as one that a retry would double."""
    event = taken(event_id=None)

    assert (event.event_id, event.occurred_at, event.flags) == ("made", micros(), UNIDENTIFIED)


def test_type_is_another_name_of_event_type() -> None:
    """Either name does; two that differ are ambiguous."""
    assert taken(event_type=None, type="buy").event_type == "buy"
    assert taken(type="buy").event_type == "buy"
    assert normal(type="view") == Rejection(
        "/type", "ambiguous", "differs from event_type, of which it is another name"
    )
    assert isinstance(normal(event_type=None), Rejection)


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("user_id", "", "empty"),
        ("user_id", "null", "placeholder"),
        ("user_id", "[object Object]", "placeholder"),
        ("user_id", "00000000-0000-0000-0000-000000000000", "placeholder"),
        ("user_id", "x" * 201, "too_long"),
        ("user_id", "a\x00b", "control_character"),
        ("user_id", "a\ud800", "control_character"),
        ("user_id", " a", "outer_white_space"),
        ("user_id", "a\u3000", "outer_white_space"),
        ("event_type", "", "empty"),
        ("event_type", "x" * 201, "too_long"),
        ("event_type", "a\nb", "control_character"),
        ("event_id", "", "empty"),
        ("event_id", "x" * 101, "too_long"),
        ("timestamp", "2026-01-01T00:00:00", "offset_required"),
        ("timestamp", "yesterday", "bad_timestamp"),
        ("timestamp", "2026-01-01T00:00:60Z", "bad_timestamp"),
        ("timestamp", "2026-01-01T00:00:00+99:00", "bad_timestamp"),
        ("timestamp", "1999-12-31T23:59:59Z", "too_early"),
        ("timestamp", "0001-01-01T00:00:00+14:00", "too_early"),
        ("experiment_id", "unheard-of", "unknown_experiment"),
        ("experiment_id", "foreign", "unknown_experiment"),
        ("properties", {"a": float("nan")}, "not_finite"),
        ("properties", {"a": [float("inf")]}, "not_finite"),
        ("properties", {"a": 2**53}, "too_large"),
        ("properties", {"a": "x" * 8_193}, "too_long"),
        ("properties", {"a": "\x00"}, "control_character"),
        ("properties", {"a\x00": 1}, "bad_key"),
        ("properties", {"a": [0] * 1_001}, "too_long"),
        ("properties", {str(n): n for n in range(201)}, "too_many_keys"),
        ("properties", {"a": {str(n): n for n in range(200)}}, "too_many_keys"),
        ("properties", {str(n): "x" * 8_000 for n in range(5)}, "too_large"),
    ],
)
def test_what_breaks_a_rule_is_refused_with_its_code(field: str, value: Any, code: str) -> None:
    """The rejection names the field and the rule, and never repeats the value."""
    found = normal(**{field: value})

    assert isinstance(found, Rejection)
    assert found.code == code
    assert found.pointer.startswith(f"/{field}")


@pytest.mark.parametrize(("depth", "fine"), [(10, True), (11, False)])
def test_properties_nest_ten_levels(depth: int, fine: bool) -> None:  # noqa: FBT001
    """Ten objects or arrays in one another are the most."""
    nested: Any = 1
    for level in range(depth):
        nested = {"a": nested} if level % 2 or level == depth - 1 else [nested]

    assert isinstance(normal(properties=nested), Event) is fine


@pytest.mark.parametrize(
    ("properties", "value"),
    [
        ({"price": 1000.0, "currency": "USD"}, 1000.0),
        ({"revenue": 5, "amount": 3}, 3.0),
        ({"value": 0}, 0.0),
        ({"price": "12,50", "amount": 2}, 2.0),
        ({"price": True}, None),
        ({"other": 1}, None),
        (None, None),
    ],
)
def test_the_value_is_the_first_number_among_the_money_words(properties: Any, value: float | None) -> None:
    """Price, amount, revenue, value, in this order; texts and booleans are no numbers."""
    assert taken(properties=properties).value == value


def test_a_clock_that_is_off_is_corrected_by_the_moment_of_sending() -> None:
    """Beyond 150 seconds the event moves by received − sent; within, it stays."""
    hour_behind = (NOW - timedelta(hours=1)).isoformat()

    corrected = taken(NOW - timedelta(hours=1), timestamp=hour_behind)
    within = taken(NOW - timedelta(seconds=150), timestamp=hour_behind)

    assert (corrected.occurred_at, corrected.flags) == (micros(), CORRECTED)
    assert (within.occurred_at, within.flags) == (micros(hours=-1), 0)


@pytest.mark.parametrize(("ahead", "flags", "hours"), [(23, 0, 23), (24, CLAMPED, 0), (24 * 3650, CLAMPED, 0)])
def test_the_future_is_dated_to_the_receipt(ahead: int, flags: int, hours: int) -> None:
    """Up to 23 hours are a clock's; beyond that the event happened when it came."""
    event = taken(timestamp=(NOW + timedelta(hours=ahead)).isoformat())

    assert (event.occurred_at, event.flags) == (micros(hours=hours), flags)


def test_late_events_are_marked_unless_they_are_imported() -> None:
    """More than a week after it happened is late; an imported event says so itself."""
    old = (NOW - timedelta(days=8)).isoformat()

    assert taken(timestamp=old).flags == LATE
    imported = normal(timestamp=old, imported=True)
    assert isinstance(imported, Event)
    assert imported.flags == IMPORTED


@pytest.mark.parametrize(
    ("session", "sequence", "pointer", "code"),
    [
        ("s", None, "/sequence", "missing"),
        (None, 1, "/session_id", "missing"),
        ("s", 0, "/sequence", "out_of_range"),
        ("s", -1, "/sequence", "out_of_range"),
        ("s", 2**31, "/sequence", "out_of_range"),
        ("", 1, "/session_id", "empty"),
        (" s", 1, "/session_id", "outer_white_space"),
        ("s" * 101, 1, "/session_id", "too_long"),
        ("s\ud800", 1, "/session_id", "control_character"),
    ],
)
def test_a_number_without_its_session_or_out_of_range_is_refused(
    session: str | None, sequence: int | None, pointer: str, code: str
) -> None:
    """Both or neither; from 1 to 2^31 − 1."""
    found = normal(session_id=session, sequence=sequence)

    assert isinstance(found, Rejection)
    assert (found.pointer, found.code) == (pointer, code)


def test_a_numbered_event_has_its_place_in_its_session() -> None:
    """The sequence number in the lower 31 bits, the session above; in 63 bits, which every store holds."""
    first, last = (taken(session_id="s" * 100, sequence=number).ordinal for number in (1, 2**31 - 1))
    other = taken(session_id="t", sequence=1).ordinal

    assert taken().ordinal is None
    assert first is not None
    assert last is not None
    assert other is not None
    assert (last - first, first % SEQUENCES, other % SEQUENCES) == (2**31 - 2, 1, 1)
    assert first // SEQUENCES != other // SEQUENCES
    assert all(0 < taken(session_id=f"ü{n}", sequence=2**31 - 1).ordinal < 2**63 for n in range(100))  # type: ignore[operator]


def test_a_repeat_with_another_number_is_the_same_event() -> None:
    """A client that counts anew after a crash must not make a conflict of a retry."""
    assert taken(session_id="s", sequence=1).fingerprint == taken(session_id="t", sequence=9).fingerprint


def test_an_offset_names_the_same_moment_as_utc() -> None:
    """Times are compared as moments."""
    assert taken(timestamp="2026-06-01T14:00:00+02:00").occurred_at == micros()


def test_the_fingerprint_tells_other_content_apart() -> None:
    """A retry has the same fingerprint, whenever it comes; another content has another."""
    first = taken(properties={"price": 1})

    assert taken(properties={"price": 1}).fingerprint == first.fingerprint
    assert taken(properties={"price": 2}).fingerprint != first.fingerprint
    assert taken(properties={"price": 1}, user_id="other").fingerprint != first.fingerprint


@given(
    st.text(),
    st.text() | st.none(),
    st.text(max_size=40) | st.none(),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
)
def test_nothing_that_was_decoded_can_break_it(user: str, kind: str | None, when: str | None, inner: Any) -> None:
    """Whatever the fields hold, the answer is an event or a rejection."""
    found = normal(user_id=user, event_type=kind, timestamp=when, properties={"x": inner})

    assert isinstance(found, Event | Rejection)
