"""Pages without a browser: what they say while there is nothing, and to whom."""

import httpx
import pytest

from upshot.targeting import OPERATORS


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/", "Your first experiment"),
        ("/?search=nothing", "Nothing matches"),
        ("/dashboard/metrics", "No metric is defined"),
        ("/dashboard/events", "No event has come yet"),
        ("/dashboard/people", "No key yet"),
        ("/dashboard/settings", "Nobody is told"),
    ],
)
async def test_empty_pages_teach(api: httpx.AsyncClient, path: str, says: str) -> None:
    """What to do next."""
    page = await api.get(path)

    assert page.status_code == 200
    assert says in page.text


async def test_an_empty_filter_is_none(api: httpx.AsyncClient) -> None:
    """As browsers send forms without a script."""
    page = await api.get("/?search=&status=&owner=&tag=")

    assert page.status_code == 200
    assert "Your first experiment" in page.text


async def test_settings_name_webhooks(api: httpx.AsyncClient) -> None:
    """And what they are told of; their secret is not shown again."""
    hook = {"url": "https://hooks.example.com/x", "occasions": ["experiment.started", "experiment.completed"]}
    made = (await api.post("/webhooks", json=hook)).json()

    page = (await api.get("/dashboard/settings")).text

    assert "https://hooks.example.com/x" in page
    assert "experiment.completed, experiment.started" in page
    assert made["secret"] not in page


async def test_every_operator_can_be_chosen(api: httpx.AsyncClient) -> None:
    """The builder knows what targeting knows."""
    page = (await api.get("/dashboard/new")).text

    assert [operator for operator in OPERATORS if f'<option value="{operator}">' not in page] == []


async def test_who_is_not_signed_in_is_led_to_where_one_can(api: httpx.AsyncClient) -> None:
    """And back to where they wanted, query and all; nowhere else."""
    found = await api.get("/dashboard/events?x=1&next=//evil", headers={"Authorization": ""})
    elsewhere = await api.get("/sign-in", params={"next": "//evil.example"})

    assert (found.status_code, found.headers["location"]) == (
        303,
        "/sign-in?next=/dashboard/events%3Fx%3D1%26next%3D//evil",
    )
    assert 'data-then="/"' in elsewhere.text


@pytest.mark.parametrize("path", ["/dashboard/experiments/none", "/dashboard/nowhere", "/shared/a/b"])
async def test_what_is_not_there_is_a_page(api: httpx.AsyncClient, path: str) -> None:
    """With the status of the API."""
    page = await api.get(path)

    assert page.status_code == 404
    assert page.headers["content-type"] == "text/html; charset=utf-8"
