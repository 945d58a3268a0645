"""Webhooks: what is told, how it is signed, and when it is tried again."""

import base64
import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from itertools import accumulate
from typing import Any

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st
from tests.core.notices import BREACH, NOW, changed, experiment, notices

from upshot import experiments, lifecycle, webhooks
from upshot.clock import FixedClock
from upshot.errors import Invalid
from upshot.experiments import Draft, Status
from upshot.overrides import OverrideDraft
from upshot.variants import VariantDraft
from upshot.webhooks import DELAYS, Delivery, DisabledBy, Failure, Form, Occasion, Webhook

SECRET = webhooks.secret_of(bytes(range(32)))
OTHER_SECRET = webhooks.secret_of(bytes(range(100, 124)))
BODY = '{"type":"experiment.started","data":{"name":"é.@"}}'.encode()
Verifies = Callable[[dict[str, str], bytes], bool]


def webhook(**fields: Any) -> Webhook:
    """A webhook that wants to know everything."""
    made = webhooks.create("w1", "https://hooks.example.com/upshot", list(Occasion), "standard", SECRET, NOW)
    return replace(made, **fields)


def delivery(**fields: Any) -> Delivery:
    """A message that was not sent yet."""
    made = webhooks.delivery_for(webhook(), notices()[Occasion.STARTED], "m1", NOW)
    assert made is not None
    return replace(made, **fields)


# What is told


def test_a_message_names_the_variant_that_is_shipped() -> None:
    """Once the experiment was completed with one, and in every message from then on."""
    running = experiment()
    shipped = lifecycle.move(running, "complete", NOW, "green")
    steps = [(None, running), (running, lifecycle.move(running, "complete", NOW)), (running, shipped),
             (shipped, changed(shipped, description="It won."))]  # fmt: skip

    told = [webhooks.of_change(before, after) for before, after in steps]

    documents = [json.loads(webhooks.payload_of(notice, Form.STANDARD)) for notice in told if notice]
    assert [each["data"]["experiment"]["winner"] for each in documents] == [None, None, "green", "green"]


def test_a_start_a_change_and_the_end_are_told() -> None:
    """Each step of an experiment has its occasion; pausing, going on and archiving are changes of the state."""
    running = experiment()
    paused = lifecycle.move(running, "pause", NOW)
    completed = lifecycle.move(paused, "complete", NOW)
    renamed = changed(completed, description="It won.")
    steps = [
        (None, running), (running, paused), (paused, lifecycle.move(paused, "resume", NOW)), (paused, completed),
        (completed, renamed), (renamed, lifecycle.move(renamed, "archive", NOW)),
    ]  # fmt: skip

    told = [webhooks.of_change(before, after) for before, after in steps]

    assert [notice and notice.occasion for notice in told] == [
        Occasion.STARTED, Occasion.CHANGED, Occasion.CHANGED, Occasion.COMPLETED, Occasion.CHANGED, Occasion.CHANGED
    ]  # fmt: skip
    assert [(c.field, c.before, c.after) for c in facts(told[1])] == [("status", "running", "paused")]


def facts(notice: webhooks.Notice | None) -> tuple[Any, ...]:
    """The changes that a notice tells."""
    assert notice is not None
    assert isinstance(notice.fact, tuple)
    return notice.fact


def test_nothing_is_told_of_drafts_and_of_steps_that_change_nothing() -> None:
    """A draft changes until it is right; its start is told once it starts."""
    draft = experiments.create(
        Draft("d", [VariantDraft("a"), VariantDraft("b")], status=Status.DRAFT), NOW, FixedClock().new_id
    )
    running = experiment()

    assert webhooks.of_change(None, draft) is None
    assert webhooks.of_change(draft, changed(draft, name="e")) is None
    assert webhooks.of_change(running, replace(running, version=9, updated_at=NOW + timedelta(days=1))) is None
    started = webhooks.of_change(draft, lifecycle.move(draft, "start", NOW))
    assert started is not None
    assert started.occasion is Occasion.STARTED


def test_every_field_that_can_change_after_the_start_is_told() -> None:
    """With what it was and what it became, in the words of the API."""
    values: dict[str, Any] = {
        "name": "n", "description": "d", "hypothesis": "h", "primary_metric": "signup",
        "metrics": ["m"], "guardrails": [],
        "targeting": {"countries": ["US"]}, "traffic_percentage": Decimal(10), "plan": {"alpha": 0.01},
        "variants": [VariantDraft("blue"), VariantDraft("green"), VariantDraft("red")],
        "tags": ["checkout"], "overrides": [OverrideDraft("blue", ["tester"])], "owner": "ben@example.com",
    }  # fmt: skip
    assert values.keys() == lifecycle.EDITABLE[Status.RUNNING]
    named = {"variants": "traffic_allocation", "plan": "alpha"}

    for name, value in values.items():
        told = facts(webhooks.of_change(experiment(), changed(experiment(), **{name: value})))

        assert [change.field for change in told] == [named.get(name, name)]
        assert told[0].before != told[0].after


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("occasion", Occasion)
def test_a_payload_is_json_in_ascii(occasion: Occasion, form: Form) -> None:
    """In every form, of every occasion, and the same bytes every time."""
    payload = webhooks.payload_of(notices("Bütton")[occasion], form)

    assert payload.isascii()
    assert "Bütton" in json.dumps(json.loads(payload), ensure_ascii=False)
    assert payload == webhooks.payload_of(notices("Bütton")[occasion], form)


@pytest.mark.parametrize("occasion", Occasion)
def test_a_standard_payload_says_type_time_and_data(occasion: Occasion) -> None:
    """As Standard Webhooks has it; the experiment is always there, and beside it what the occasion adds."""
    document = json.loads(webhooks.payload_of(notices()[occasion], Form.STANDARD))

    added = {Occasion.CHANGED: {"changes"}, Occasion.BREACHED: {"guardrail"}, Occasion.MISMATCHED: {"sample_ratio"}}
    assert document.keys() == {"type", "timestamp", "data"}
    assert document["type"] == occasion
    assert datetime.fromisoformat(document["timestamp"]) == notices()[occasion].at
    assert document["data"].keys() == {"experiment"} | added.get(occasion, set())
    assert document["data"]["experiment"]["traffic_allocation"] == {"blue": 50, "green": 50}


def test_times_are_in_utc() -> None:
    """Wherever the process is."""
    notice = webhooks.breached(experiment(), BREACH, NOW.astimezone(timezone(timedelta(hours=5, minutes=30))))

    assert json.loads(webhooks.payload_of(notice, Form.STANDARD))["timestamp"] == "2026-06-01T12:00:00Z"


def test_a_lift_that_does_not_exist_is_null() -> None:
    """An interval that is open on a side is null there, and called unbounded to people."""
    notice = webhooks.breached(experiment(), replace(BREACH, lift=None, upper=None), NOW)

    guardrail = json.loads(webhooks.payload_of(notice, Form.STANDARD))["data"]["guardrail"]
    text = json.loads(webhooks.payload_of(notice, Form.SLACK))["text"]

    assert (guardrail["lift"], guardrail["interval"]) == (None, {"lower": 0.012, "upper": None})
    assert "Lift unknown, 95% interval +1.2% … unbounded." in text


@pytest.mark.parametrize("occasion", Occasion)
def test_names_call_nobody_and_make_no_links_in_a_message_for_people(occasion: Occasion) -> None:
    """Control characters of Slack are escaped, and nobody is mentioned on any service."""
    hostile = "<!channel> @here & <https://evil.example|click>"

    message = json.loads(webhooks.payload_of(notices(hostile, ("<@U1>", "@all"))[occasion], Form.SLACK))

    assert "&lt;!channel&gt; @\u200bhere &amp;" in message["text"]
    for text in [message["text"], *(block["text"]["text"] for block in message["blocks"])]:
        assert dangers(text) == []
    assert {block["text"]["type"] for block in message["blocks"]} == {"plain_text"}


def dangers(text: str) -> list[str]:
    """What a chat would read as a mention, a link or a broken entity."""
    return re.findall(r"[<>]|@\w+|&(?!amp;|lt;|gt;)", text)


def test_dangers_are_found() -> None:
    """The check above can fail."""
    assert dangers("<!here> @all a&b") == ["<", ">", "@all", "&"]
    assert dangers(json.dumps(webhooks.payloads.document(notices("<@U1> @here")[Occasion.STARTED]))) != []


def test_a_message_for_people_is_short() -> None:
    """However long the texts and however many the changes: at most 50 blocks of 3,000 characters, which Slack takes."""
    running = experiment("&" * 120)
    many = [VariantDraft("blue"), VariantDraft("green"), *(VariantDraft("@" * 100 + str(n)) for n in range(18))]
    metrics = [f"m{n}" for n in range(50)]
    texts: dict[str, Any] = dict.fromkeys(("description", "hypothesis"), "<" * 10_000)
    plan = {"alpha": 0.01, "planned_users": 1000, "stopping": "fixed", "adjust": True, "prior_lift_sd": 0.1}
    after = changed(
        running, **texts, name="n", primary_metric="p", metrics=metrics, guardrails=metrics, variants=many, plan=plan,
        traffic_percentage=Decimal(1), targeting={"countries": ["US", "CA"]},
    )  # fmt: skip
    notice = webhooks.of_change(running, after)
    assert notice is not None

    blocks = json.loads(webhooks.payload_of(notice, Form.SLACK))["blocks"]

    assert len(facts(notice)) > 10
    assert len(blocks) == 12
    assert max(len(block["text"]["text"]) for block in blocks) <= 3_000
    assert blocks[2]["text"]["text"].endswith(f"→ {'&lt;' * 199}…")
    started = webhooks.of_change(None, after)
    assert started is not None
    shares = json.loads(webhooks.payload_of(started, Form.SLACK))["blocks"][1]["text"]["text"]
    assert 500 < len(shares) <= 3_000


# How it is signed


def ours(headers: dict[str, str], body: bytes) -> bool:
    """Whether our own check takes a message."""
    return webhooks.verify(headers, body, [SECRET], datetime.now(UTC))


def theirs(headers: dict[str, str], body: bytes) -> bool:
    """Whether the library of Standard Webhooks takes a message."""
    try:
        standardwebhooks.Webhook(SECRET).verify(body, headers, json_parse=False)
    except standardwebhooks.WebhookVerificationError:
        return False
    return True


@pytest.mark.parametrize("verifies", [ours, theirs])
def test_a_message_of_ours_is_taken_and_nothing_else(verifies: Verifies) -> None:
    """By us and by the library of Standard Webhooks, and whatever is changed on the way is refused."""
    now = datetime.now(UTC)
    good = webhooks.signed_headers("m1", now, BODY, [SECRET])

    assert verifies(good, BODY)
    assert verifies({name.title(): value for name, value in good.items()}, BODY)
    assert verifies(webhooks.signed_headers("m1", now, BODY, [OTHER_SECRET, SECRET]), BODY)
    for broken, body in [
        (good, BODY + b" "),
        (good | {"webhook-id": "m2"}, BODY),
        (good | {"webhook-timestamp": str(int(now.timestamp()) - 1)}, BODY),
        (good | {"webhook-timestamp": "soon"}, BODY),
        (good | {"webhook-signature": good["webhook-signature"].replace("v1,", "v2,")}, BODY),
        (good | {"webhook-signature": "v1," + base64.b64encode(bytes(32)).decode()}, BODY),
        ({name: value for name, value in good.items() if name != "webhook-id"}, BODY),
        (webhooks.signed_headers("m1", now, BODY, [OTHER_SECRET]), BODY),
        (webhooks.signed_headers("", now, BODY, [SECRET]), BODY),
        (webhooks.signed_headers("m1", now - timedelta(minutes=6), BODY, [SECRET]), BODY),
        (webhooks.signed_headers("m1", now + timedelta(minutes=6), BODY, [SECRET]), BODY),
    ]:
        assert not verifies(broken, body)


def test_a_message_of_the_library_is_taken() -> None:
    """What the library of Standard Webhooks signs is what we sign, byte for byte."""
    signature = standardwebhooks.Webhook(SECRET).sign("m1", NOW, BODY.decode())

    headers = webhooks.signed_headers("m1", NOW, BODY, [SECRET])

    assert headers["webhook-signature"] == signature
    assert webhooks.verify(headers, BODY, [OTHER_SECRET, SECRET], NOW)


@pytest.mark.parametrize("timestamp", ["", "nan", "1e9", "-1", "٣", "9" * 400, " 1"])
def test_a_strange_timestamp_is_refused(timestamp: str) -> None:
    """And raises nothing."""
    headers = webhooks.signed_headers("m1", NOW, BODY, [SECRET]) | {"webhook-timestamp": timestamp}

    assert not webhooks.verify(headers, BODY, [SECRET], NOW)


@given(st.binary(min_size=24, max_size=64))
def test_a_secret_is_made_of_its_bytes(key: bytes) -> None:
    """And passes the rule of secrets."""
    secret = webhooks.secret_of(key)

    assert webhooks.check_secret(secret) is None
    assert base64.b64decode(secret.removeprefix("whsec_")) == key


@pytest.mark.parametrize(
    "secret",
    ["",
    "whsec_", SECRET.removeprefix("whsec_"), webhooks.secret_of(bytes(23)), webhooks.secret_of(bytes(65)), SECRET + "=",
     SECRET[:-3] + "é==", SECRET + "\n"],
)  # fmt: skip
def test_a_bad_secret_is_refused(secret: str) -> None:
    """With a fault that does not repeat it."""
    fault = webhooks.check_secret(secret)

    assert fault is not None
    assert (fault.pointer, fault.code) == ("/secret", "bad_secret")
    assert len(secret) < 12 or secret not in fault.message


def test_a_replaced_secret_signs_along_for_a_day() -> None:
    """The receiver may change over at any moment of it; then the new one signs alone."""
    changing = webhooks.rotated(webhook(), OTHER_SECRET, NOW)

    headers, body = webhooks.request_of(changing, delivery(), NOW + timedelta(hours=23))
    later, _ = webhooks.request_of(changing, delivery(), NOW + timedelta(hours=24))

    assert all(webhooks.verify(headers, body, [s], NOW + timedelta(hours=23)) for s in (SECRET, OTHER_SECRET))
    assert webhooks.verify(later, body, [OTHER_SECRET], NOW + timedelta(hours=24))
    assert not webhooks.verify(later, body, [SECRET], NOW + timedelta(hours=24))


def test_secrets_are_not_shown_where_records_are_printed() -> None:
    """Neither the secrets nor the URL, which is one for a chat."""
    shown = repr(webhooks.rotated(webhook(), OTHER_SECRET, NOW)) + repr(delivery())

    assert not [word for word in (SECRET, OTHER_SECRET, "hooks.example.com", "Button") if word in shown]


# Where it goes

BAD_URLS = {
    "bad_scheme": [
        "http://a.example.com", "ftp://a.example.com", "file:///etc/passwd", "gopher://a.example.com",
        "//a.example.com", "a.example.com", "https:a.example.com", "https:/a.example.com", "javascript:alert(1)", "",
    ],
    "user_info": [
        "https://user@a.example.com", "https://u:p@a.example.com/", "https://a.example.com:443@127.0.0.1/",
        "https://@a.example.com",
    ],
    "fragment": [
        "https://a.example.com/#x", "https://a.example.com#", "https://a.example.com#@127.0.0.1/",
    ],
    "bad_port": [
        "https://a.example.com:80", "https://a.example.com:22", "https://a.example.com:",
        "https://a.example.com:0443", "https://a.example.com:443:443", "https://a.example.com:65979",
        "https://a.example.com:-443",
    ],
    "address": [
        "https://127.0.0.1", "https://8.8.8.8", "https://2130706433", "https://0x7f000001", "https://0177.0.0.1",
        "https://127.1", "https://0", "https://[::1]", "https://[::ffff:127.0.0.1]:443", "https://a.example.1",
    ],
    "inside_name": [
        "https://localhost", "https://a.localhost", "https://printer.local", "https://metadata.google.internal",
        "https://LOCALHOST", "https://router.home.arpa", "https://hidden.onion",
    ],
    "bad_host": [
        "https://", "https:///path", "https://intranet", "https://a.example.com.", "https://localhost.",
        "https://a..com", "https://-a.com", "https://a-.com", "https://a_b.com", "https://.com", "https://%61.com",
        f"https://{'a' * 64}.com", f"https://{'.'.join(['a' * 60] * 5)}.com", "https://a.com!", "https://a,b.com",
    ],
    "bad_character": [
        "https://exämple.com", "https://１２７.０.０.１", "https://a.com/ b", "https://a.com/\t", "https://a.com\\@b.com",
        "https://a。com", "https://a.com/%zz", "https://a.com/\x00", "https://a.com\n", "https://ⓛocalhost",
        'https://a.com/"', "https://a.com/\u202e",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("code", "url"), [(code, url) for code, urls in BAD_URLS.items() for url in urls])
def test_a_bad_url_is_refused(code: str, url: str) -> None:
    """With a code for the rule that it breaks, and without repeating it."""
    fault = webhooks.check_url(url)

    assert fault is not None
    assert (fault.pointer, fault.code) == ("/url", code)
    assert webhooks.destination_of(url) is None
    assert len(url) < 12 or url not in fault.message


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://hooks.example.com", ("hooks.example.com", 443, "/")),
        ("HTTPS://Hooks.Example.COM:443/T1/B2?x=%20&y=[1]", ("hooks.example.com", 443, "/T1/B2?x=%20&y=[1]")),
        ("https://xn--bcher-kva.example.com:8443?q", ("xn--bcher-kva.example.com", 8443, "/?q")),
        ("https://a.b:9443/@user:1", ("a.b", 9443, "/@user:1")),
        ("https://1.a.example.com/" + "x" * 1_976, ("1.a.example.com", 443, "/" + "x" * 1_976)),
    ],
)
def test_a_good_url_leads_where_it_says(url: str, parts: tuple[str, int, str]) -> None:
    """The host in lower case, the port, and path with query as they are."""
    assert webhooks.check_url(url) is None
    assert webhooks.destination_of(url) == webhooks.Destination(*parts)


def test_a_webhook_with_faults_is_refused_with_all_of_them() -> None:
    """Each has its pointer."""
    with pytest.raises(Invalid) as refused:
        webhooks.create("w1", "http://a.example.com", ["experiment.started", "birthday"], "fax", "secret", NOW)

    assert [fault.pointer for fault in refused.value.faults] == ["/url", "/secret", "/occasions", "/form"]
    with pytest.raises(Invalid):
        webhooks.create("w1", "https://a.example.com", [], "standard", SECRET, NOW)
    with pytest.raises(Invalid):
        webhooks.rotated(webhook(), "secret", NOW)


# When it is tried again


def test_attempts_are_made_on_the_schedule_of_standard_webhooks() -> None:
    """At once, then after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h and 24 h: 75 hours 35 minutes and 5 seconds in all."""
    after = [webhooks.delay_before(attempt, 0) for attempt in range(1, 12)]

    assert after == [*DELAYS, None]
    assert list(accumulate(DELAYS, initial=timedelta()))[-1] == timedelta(hours=75, minutes=35, seconds=5)
    assert [delay.total_seconds() for delay in DELAYS] == [0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]


@given(st.integers(1, 10), st.floats(0, 1))
def test_jitter_adds_up_to_a_tenth(attempt: int, jitter: float) -> None:
    """Never less than the plan."""
    delay = webhooks.delay_before(attempt, jitter)

    assert delay is not None
    assert DELAYS[attempt - 1] <= delay <= DELAYS[attempt - 1] * 1.1


@pytest.mark.parametrize("answer", [200, 202, 204, 299])
def test_a_success_delivers(answer: int) -> None:
    """Whatever the success is called; failures before it are forgiven to the webhook."""
    tried = webhooks.attempted(delivery(attempts=3, first_failed_at=NOW), answer, NOW + timedelta(hours=1), 0.5)

    assert (tried.delivered_at, tried.next_at, tried.given_up_at) == (NOW + timedelta(hours=1), None, None)
    assert (tried.attempts, tried.last_answer) == (4, str(answer))
    assert webhooks.standing(webhook(failing_since=NOW), answer, NOW).failing_since is None


@pytest.mark.parametrize("answer", [100, 199, 300, 301, 307, 400, 404, 409, 429, 500, 503, 599, *Failure])
def test_everything_else_is_tried_again(answer: int | Failure) -> None:
    """Redirects, refusals and silence alike: after five seconds first."""
    tried = webhooks.attempted(delivery(), answer, NOW, 0.0)

    assert (tried.next_at, tried.first_failed_at, tried.attempts) == (NOW + timedelta(seconds=5), NOW, 1)
    assert (tried.delivered_at, tried.given_up_at, tried.last_answer) == (None, None, str(answer))
    assert webhooks.standing(webhook(), answer, NOW) == webhook(failing_since=NOW)


def test_after_the_last_attempt_a_delivery_is_given_up() -> None:
    """Ten attempts, each with the same id and payload, and by then the webhook has failed for three days."""
    now, sent, listening = NOW, delivery(), webhook()
    while sent.next_at is not None:
        now = sent.next_at
        sent, listening = webhooks.attempted(sent, 500, now, 0.0), webhooks.standing(listening, 500, now)

    assert (sent.attempts, sent.given_up_at) == (10, now)
    assert (sent.id, sent.payload, sent.first_failed_at) == (delivery().id, delivery().payload, NOW)
    assert now - NOW == timedelta(hours=75, minutes=35, seconds=5)
    assert (listening.disabled_reason, listening.disabled_at) == (DisabledBy.FAILING, now)


def test_a_receiver_that_is_gone_is_told_nothing_more() -> None:
    """410 gives the delivery up and disables the webhook at once."""
    assert webhooks.attempted(delivery(), 410, NOW, 0.0).given_up_at == NOW
    listening = webhooks.standing(webhook(), 410, NOW)

    assert (listening.disabled_at, listening.disabled_reason) == (NOW, DisabledBy.GONE)
    assert webhooks.delivery_for(listening, notices()[Occasion.STARTED], "m2", NOW) is None
    assert webhooks.disabled(listening, DisabledBy.USER, NOW + timedelta(days=1)) == listening


def test_three_days_without_a_success_disable_a_webhook() -> None:
    """Not a moment before, and any success in between begins the count anew."""
    failing, days = webhooks.standing(webhook(), Failure.TIMED_OUT, NOW), timedelta(days=3)

    assert webhooks.standing(failing, 500, NOW + days - timedelta(seconds=1)).disabled_at is None
    assert webhooks.standing(failing, 500, NOW + days).disabled_reason is DisabledBy.FAILING
    forgiven = webhooks.standing(webhooks.standing(failing, 200, NOW), 500, NOW + days)
    assert (forgiven.failing_since, forgiven.disabled_at) == (NOW + days, None)


def test_a_webhook_that_is_switched_on_again_begins_anew() -> None:
    """Its failures are forgotten, or the next one would switch it off."""
    failed = webhooks.disabled(webhook(failing_since=NOW), DisabledBy.FAILING, NOW)

    again = webhooks.enabled(failed)

    assert again == webhook()
    assert webhooks.standing(again, 500, NOW + timedelta(days=9)).disabled_at is None


def test_a_webhook_is_told_what_it_asked_for() -> None:
    """In its form, and nothing else."""
    starts = webhook(occasions=frozenset({Occasion.STARTED}), form=Form.SLACK)

    told = webhooks.delivery_for(starts, notices()[Occasion.STARTED], "m1", NOW)

    assert told is not None
    assert json.loads(told.payload).keys() == {"text", "blocks"}
    assert (told.next_at, told.attempts, told.webhook_id) == (NOW, 0, "w1")
    assert webhooks.delivery_for(starts, notices()[Occasion.COMPLETED], "m1", NOW) is None
