"""The protocol of the SDK without a socket and without waiting: what is asked when, and what an answer does."""

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.sdk.scripted import configuration, experiment

from upshot.errors import UpshotError
from upshot.sdk.delivery import Delivery
from upshot.sdk.exchange import Answer, Occasion, Purpose, Request
from upshot.sdk.outbox import Item, Kind, Outbox
from upshot.sdk.polling import Polling
from upshot.sdk.protocol import Protocol
from upshot.sdk.reports import Reports
from upshot.sdk.retries import LONGEST, RESERVE, Budget, Retries, ordered
from upshot.sdk.shown import Shown
from upshot.sdk.stream import Change, Stream, StreamReader

WALL = datetime(2026, 1, 1, tzinfo=UTC)
DOCUMENT = json.dumps(configuration(experiment())).encode()
TAKEN = Answer(201, content=b'{"accepted":1,"duplicates":0,"conflicts":0,"rejected":[]}')


class Conversation:
    """A protocol that lives in a time of its own. Random numbers are a half."""

    def __init__(self, limit: int = 10_000, poll_seconds: float = 10.0) -> None:
        self.errors: list[UpshotError] = []
        self.forgotten: list[tuple[str, str]] = []
        self.now = 0.0
        self.reports = Reports(self.errors.append)
        self.outbox = Outbox(limit, self.reports)
        self.polling = Polling(poll_seconds, self.half, self.reports)
        self.delivery = Delivery(self.outbox, self.half, self.reports, lambda *shown: self.forgotten.append(shown))
        self.protocol = Protocol(self.polling, self.delivery, None)

    @staticmethod
    def half() -> float:
        """A random number that is not."""
        return 0.5

    @property
    def wall(self) -> datetime:
        """The time of day."""
        return WALL + timedelta(seconds=self.now)

    def next(self, *, hurry: bool = False) -> Request | float:
        """The next step."""
        return self.protocol.next(self.now, self.wall, hurry=hurry)

    def request(self, *, hurry: bool = False) -> Request:
        """The next step, which is a request."""
        step = self.next(hurry=hurry)
        assert isinstance(step, Request), step
        return step

    def wait(self) -> float:
        """Live until the next step is due; the seconds that took."""
        step = self.next()
        assert isinstance(step, float)
        waited, self.now = step - self.now, step
        return waited

    def answer(self, request: Request, answer: Answer | None) -> tuple[Occasion, ...]:
        """Take in an answer."""
        return self.protocol.answered(request, answer, self.now, self.wall).occasions

    def configured(self) -> "Conversation":
        """After the first configuration."""
        self.answer(self.request(), Answer(200, {"etag": '"one"'}, DOCUMENT))
        return self

    def track(self, *names: str) -> None:
        """Put events into the outbox."""
        for name in names:
            self.outbox.put(Kind.EVENTS, Item(json.dumps(name).encode()))


def sent(request: Request) -> Any:
    """What a delivery carries."""
    body = json.loads(request.content)
    return body.get("events", body.get("exposures"))


def test_the_configuration_is_asked_for_at_once_and_then_at_every_poll_with_its_etag() -> None:
    """A random tenth earlier or later; a 304 changes nothing but the age."""
    talk = Conversation()
    first = talk.request()

    occasions = talk.answer(first, Answer(200, {"etag": '"one"'}, DOCUMENT))
    waited = talk.wait()
    second = talk.request()
    talk.now += 2
    age = talk.polling.age(talk.wall)
    unchanged = talk.answer(second, Answer(304, {"etag": '"one"'}))

    assert (first.path, first.headers, occasions) == ("/sdk/config", {}, (Occasion.READY,))
    assert waited == pytest.approx(10.0)
    assert second.headers == {"If-None-Match": '"one"'}
    assert (age, unchanged, talk.polling.age(talk.wall)) == (12.0, (), 0.0)


def test_another_etag_is_a_change() -> None:
    """Told once."""
    talk = Conversation().configured()
    talk.wait()

    occasions = talk.answer(talk.request(), Answer(200, {"etag": '"two"'}, DOCUMENT))

    assert (occasions, talk.polling.version) == ((Occasion.CHANGED,), "two")


@pytest.mark.parametrize(
    "content", [b"<html>", b"[]", b'{"format":2}', b'{"format":1,"experiments":[{}],"flags":[]}', b""]
)
def test_a_document_that_cannot_be_read_never_replaces_a_good_one(content: bytes) -> None:
    """It is told once, and asked for again at the next poll."""
    talk = Conversation().configured()
    talk.wait()

    outcome = talk.protocol.answered(talk.request(), Answer(200, {"etag": '"two"'}, content), talk.now, talk.wall)
    talk.wait()
    again = talk.request()
    talk.answer(again, Answer(200, {"etag": '"two"'}, content))

    assert (outcome.snapshot, outcome.occasions) == (None, (Occasion.FAILED,))
    assert again.headers == {"If-None-Match": '"one"'}
    assert (talk.polling.version, len(talk.errors), talk.reports.last) == ("one", 1, "unreadable_configuration")


def test_a_server_that_is_away_is_asked_less_and_less_often() -> None:
    """Half of 100 ms, 200 ms and so on here, up to 30 s; after three polls without an answer what is known is stale."""
    talk = Conversation().configured()
    talk.wait()
    waits: list[float] = []
    occasions: list[Occasion] = []

    for _ in range(13):
        occasions += talk.answer(talk.request(), None)
        waits.append(round(talk.wait(), 3))

    assert waits[:4] == [0.05, 0.1, 0.2, 0.4]
    assert max(waits) == LONGEST * 0.75  # the budget of early retries is spent
    assert occasions == [Occasion.STALE]
    assert talk.answer(talk.request(), Answer(304)) == (Occasion.READY,)
    assert talk.wait() == pytest.approx(10.0)
    assert len(talk.errors) == 1


def test_a_key_that_is_refused_is_tried_again_up_to_a_minute_later() -> None:
    """Told once; what waits is kept, and sent when the key is good again."""
    talk = Conversation().configured()
    talk.track("a")
    waits = []
    for _ in range(12):
        waits.append(talk.wait())
        while isinstance(step := talk.next(), Request):
            talk.answer(step, Answer(401, content=b'{"code":"unauthenticated"}'))

    assert [error.code for error in talk.errors] == ["unauthenticated", "unauthenticated"]  # of polling, of delivery
    assert len(talk.outbox) == 1
    talk.now += 60
    talk.answer(talk.request(hurry=True), TAKEN)
    assert (talk.delivery.sent, len(talk.outbox)) == (1, 0)
    assert max(waits) <= 60


def test_a_batch_goes_out_a_second_after_its_first_item_or_when_it_is_full() -> None:
    """Exposures before events; in a hurry at once."""
    talk = Conversation().configured()
    talk.track("a")
    waited = talk.wait()
    first = talk.request()
    talk.answer(first, TAKEN)
    talk.track(*map(str, range(600)))
    talk.outbox.put(Kind.EXPOSURES, Item(b'"x"', ("e", "u")))

    full = talk.request()
    talk.answer(full, TAKEN)
    shown = talk.request(hurry=True)
    talk.answer(shown, TAKEN)
    rest = talk.request(hurry=True)

    assert (waited, sent(first), first.path) == (1.0, ["a"], "/events")
    assert [len(sent(each)) for each in (full, shown, rest)] == [500, 1, 100]
    assert [each.path for each in (full, shown, rest)] == ["/events", "/exposures", "/events"]
    assert json.loads(full.content)["sent_at"] == talk.wall.isoformat()
    talk.answer(rest, TAKEN)
    assert talk.next(hurry=True) == math.inf


def test_a_batch_has_at_most_half_a_mebibyte() -> None:
    """But one item at least."""
    talk = Conversation().configured()
    talk.track("x" * 300_000, "y" * 300_000, "z" * 900_000, "a")

    sizes = []
    for _ in range(4):
        request = talk.request(hurry=True)
        sizes.append(len(sent(request)))
        talk.answer(request, TAKEN)
        if not len(talk.outbox):
            break

    assert sizes == [1, 1, 1, 1]


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504, 307, None])
def test_what_says_that_the_server_is_away_keeps_the_batch(status: int | None) -> None:
    """However often: the same bytes but for the clock; it is told once."""
    talk = Conversation().configured()
    talk.track("a", "b")

    for _ in range(30):
        request = talk.request(hurry=True)
        assert sent(request) == ["a", "b"]
        talk.answer(request, None if status is None else Answer(status))
        step = talk.next(hurry=True)
        assert isinstance(step, float)
        assert 0 < step - talk.now <= LONGEST + 1e-6
        talk.now = step
    talk.answer(talk.request(hurry=True), TAKEN)

    assert (talk.delivery.sent, talk.delivery.failed, len(talk.outbox)) == (2, 0, 0)
    assert len(talk.errors) == 1


@pytest.mark.parametrize(
    ("said", "seconds"), [("7", 7), ("Thu, 01 Jan 2026 00:00:20 GMT", 20), ("soon", 0.05), ("99999", 300), ("-5", 0.05)]
)
def test_a_retry_after_is_obeyed(said: str, seconds: float) -> None:
    """As seconds or as a date, up to five minutes; nonsense counts as nothing."""
    talk = Conversation().configured()
    talk.track("a")

    talk.answer(talk.request(hurry=True), Answer(429, {"retry-after": said}))

    assert talk.next(hurry=True) == pytest.approx(seconds)


def test_a_batch_that_the_server_fails_at_is_given_up_after_five_tries() -> None:
    """It may be the batch; its exposures are to be told anew."""
    talk = Conversation().configured()
    talk.outbox.put(Kind.EXPOSURES, Item(b'"x"', ("experiment", "user")))
    tries = 0

    while isinstance(request := talk.next(hurry=True), Request):
        tries += 1
        talk.answer(request, Answer(500))
        talk.now += LONGEST

    assert (tries, talk.delivery.failed, len(talk.outbox)) == (5, 1, 0)
    assert talk.forgotten == [("experiment", "user")]


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_what_the_server_refuses_is_dropped_and_counted(status: int) -> None:
    """With the problem's code; it does not hold up what comes after."""
    talk = Conversation().configured()
    talk.track("bad")

    talk.answer(talk.request(hurry=True), Answer(status, content=b'{"code":"because"}'))
    talk.track("good")
    talk.answer(talk.request(hurry=True), TAKEN)

    assert (talk.delivery.refused, talk.delivery.sent, talk.reports.last) == (1, 1, "because")


def test_what_is_refused_of_a_batch_is_counted() -> None:
    """The others are sent; conflicts are counted as well."""
    talk = Conversation().configured()
    for number in range(3):
        talk.outbox.put(Kind.EXPOSURES, Item(b"1", ("e", str(number))))
    told = {"accepted": 1, "duplicates": 0, "conflicts": 1, "rejected": [{"index": 0, "code": "unknown_variant"}]}

    talk.answer(talk.request(hurry=True), Answer(201, content=json.dumps(told).encode()))

    assert (talk.delivery.sent, talk.delivery.refused, talk.delivery.conflicts) == (2, 1, 1)
    assert talk.reports.last == "unknown_variant"


def test_a_page_that_answers_with_200_to_everything_is_no_upshot() -> None:
    """Nothing counts as sent that was not confirmed."""
    talk = Conversation().configured()
    talk.track("a")

    talk.answer(talk.request(hurry=True), Answer(200, content=b"<html>Welcome to our network</html>"))

    assert (talk.delivery.sent, len(talk.outbox)) == (0, 1)


def test_the_queue_keeps_the_oldest_and_counts_what_it_drops() -> None:
    """What is on its way counts as well; it is told once, and again after it was well."""
    talk = Conversation(limit=4).configured()
    talk.track("a", "b", "c")
    talk.request(hurry=True)
    talk.track("d", "e", "f")

    assert (len(talk.outbox), talk.outbox.dropped) == (4, 2)
    assert [error.code for error in talk.errors] == ["too_large"]
    talk.answer(talk.request(hurry=True), TAKEN)
    assert sent(talk.request(hurry=True)) == ["d"]


def test_early_retries_are_a_tenth_of_what_succeeds() -> None:
    """Beside those that are there from the start; a budget without an end would retry each time."""
    budget = Budget()
    early = sum(budget.spend() for _ in range(100))

    for _ in range(50):
        budget.earn()

    assert early == RESERVE
    assert sum(budget.spend() for _ in range(100)) in {4, 5}  # five, but for floats
    retries = Retries()
    assert [retries.wait(0.0) for _ in range(11)] == [0.0] * 10 + [LONGEST / 2]


def test_dates_without_sense_are_no_order() -> None:
    """Nor numbers that are none."""
    assert [ordered(said, WALL) for said in (None, "", "nan", "inf", "Thu, 99 Jan", "1e400")] == [0.0] * 6


def test_a_stream_is_read_however_it_is_cut() -> None:
    """Comments and unknown events say nothing; line ends are of three kinds."""
    text = ': hello\r\n\r\nid: 1\nevent: message\ndata: {"type":"refetchEvaluation",\ndata: "etag":"\\"two\\""}\n\n'
    text += 'data: {"type":"other"}\r\rdata: no\n\ndata: {"type":"refetchEvaluation"}\r\n\r\n'
    whole = StreamReader().feed(text.encode())
    reader = StreamReader()

    pieces = [change for byte in text.encode() for change in reader.feed(bytes([byte]))]

    assert whole == pieces == [Change('"two"'), Change(None)]


def test_a_stream_says_when_to_ask_and_polling_goes_on_when_it_breaks() -> None:
    """With it every five minutes only; after its end as before."""
    talk = Conversation().configured()
    stream = Stream(talk.polling, talk.half)

    stream.opened()
    talk.answer(talk.request(), Answer(304))
    quiet = talk.wait()
    talk.answer(talk.request(), Answer(304))
    heartbeat = stream.fed(b": \n\n", talk.wall)
    told = stream.fed(b'data: {"type":"refetchEvaluation","etag":"\\"two\\""}\n\n', talk.wall)
    request = talk.request()
    talk.answer(request, Answer(200, {"etag": '"two"'}, DOCUMENT))
    stream.ended()
    talk.answer(talk.request(), Answer(304))

    assert quiet == pytest.approx(300)
    assert (heartbeat, told) == (False, True)
    assert request.purpose is Purpose.CONFIGURATION
    assert talk.wait() == pytest.approx(10)


def test_a_change_that_is_told_while_an_answer_is_on_its_way_is_not_lost() -> None:
    """Nor one that another process of the server does not know yet: it is asked for again soon, but not for ever."""
    talk = Conversation().configured()
    stream = Stream(talk.polling, talk.half)
    stream.opened()
    under_way = talk.request()

    stream.fed(b'data: {"type":"refetchEvaluation","etag":"\\"two\\""}\n\n', talk.wall)
    talk.answer(under_way, Answer(304))
    waits = []
    for _ in range(7):
        talk.answer(talk.request(), Answer(304))  # a process that is behind
        waits.append(talk.wait())

    assert waits == [0.5] * 5 + [pytest.approx(300)] * 2


def test_a_change_that_is_told_does_not_override_the_servers_wish_to_be_left_alone() -> None:
    """Retry-After holds."""
    talk = Conversation()
    talk.answer(talk.request(), Answer(503, {"retry-after": "9"}))

    talk.polling.hint()

    assert talk.next() == 9.0


def test_who_was_shown_what_is_remembered_within_bounds() -> None:
    """The last half at least; who is asked for stays; another variant is another exposure; what is forgotten is told anew."""
    shown = Shown(100)
    for number in range(1_000):
        assert not shown.knows("e", str(number), "a")
        shown.add("e", str(number), "a")
        assert shown.knows("e", "0", "a")

    assert all(shown.knows("e", str(number), "a") for number in range(960, 1_000))
    assert not shown.knows("e", "5", "a")
    assert not shown.knows("e", "999", "b")
    assert not shown.knows("f", "999", "a")
    shown.forget("e", "999")
    assert not shown.knows("e", "999", "a")
    assert sum(len(users) for part in (shown._young, shown._old) for users in part.values()) <= 101
