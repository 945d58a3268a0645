"""The fakes for tests of applications."""

from upshot.sdk import AsyncExperimentClient, AsyncExperiments, ExperimentClient, Experiments, Recording
from upshot.sdk.testing import AsyncFakeClient, Exposure, FakeClient


def shop(client: Experiments) -> str:
    """An application."""
    color = client.variant("checkout", "user-7", {"country": "US"}).or_else("control")
    if client.flag("banner", "user-7", default=False):
        client.track("user-7", "purchase", {"price": 25.0})
    return color


async def async_shop(client: AsyncExperiments) -> str:
    """The same, awaited."""
    color = (await client.variant("checkout", "user-7")).or_else("control")
    if await client.flag("banner", "user-7", default=False):
        client.track("user-7", "purchase", {"price": 25.0})
    return color


def test_clients_and_fakes_are_of_one_interface() -> None:
    """mypy checks these lines; an interface that one of them did not have would not pass."""
    clients: list[type[Experiments]] = [ExperimentClient, FakeClient]
    awaited: list[type[AsyncExperiments]] = [AsyncExperimentClient, AsyncFakeClient]
    recording: list[type[Recording]] = [*clients, *awaited]

    assert len(clients) == len(awaited) == 2
    assert len(recording) == 4


def test_a_fake_gives_what_was_said_and_keeps_what_was_recorded() -> None:
    """For everybody, and for single users."""
    fake = FakeClient(
        variants={"checkout": "blue", ("checkout", "user-7"): "control", "closed": None},
        flags={"banner": True, ("banner", "user-8"): False},
        configs={("checkout", "blue"): {"color": "#00f"}},
    )

    assert shop(fake) == shop(fake) == "control"
    assert fake.variant("checkout", "user-1").config == {"color": "#00f"}
    assert fake.variant("checkout", "user-7").is_control
    assert (fake.variant("closed", "user-1").reason, fake.variant("x", "user-1").reason) == (
        "not_targeted",
        "unknown_experiment",
    )
    assert set(fake.choices("user-1")) == {"checkout", "closed"}
    assert fake.flag("banner", "user-8", default=True) is False
    assert fake.flag_details("banner", "user-1", "text").error_code == "TYPE_MISMATCH"
    assert fake.flag_details("other", "user-1", "text").error_code == "FLAG_NOT_FOUND"
    assert fake.exposures == [Exposure("checkout", "user-7", "control"), Exposure("checkout", "user-1", "blue")]
    assert [(event.event_type, event.properties) for event in fake.events] == [("purchase", {"price": 25.0})] * 2
    assert (fake.ready(), fake.flush(), fake.stats.sent) == (True, True, 4)
    fake.close()


async def test_a_fake_can_be_awaited() -> None:
    """With the same answers."""
    fake = AsyncFakeClient(FakeClient(variants={"checkout": "blue"}, flags={"banner": True}))

    assert await async_shop(fake) == "blue"
    assert (await fake.choices("user-1"))["checkout"].variant == "blue"
    assert (await fake.flag_details("banner", "user-1", default=False)).value is True
    assert (await fake.ready(), await fake.flush(), fake.stats.sent) == (True, True, 2)
    fake.expose("checkout", "user-1", "blue")
    await fake.close()
