"""From an empty server to a result, as people do it: by hand in the browser, with users and events from programs meanwhile."""

import re
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.slow


def send(api: httpx.Client, key: str, event_type: str, rates: dict[str, float], users: int = 400) -> None:
    """Assign users, and let a share of each variant's cause an event: every nth, without chance."""
    turns = dict.fromkeys(rates, 0)
    events = []
    for number in range(users):
        user = f"{key}-{number}"
        found = api.get(f"/experiments/{key}/assignment/{user}").json()["variant"]["name"]
        turns[found] += 1
        if int(turns[found] * rates[found]) > int((turns[found] - 1) * rates[found]):
            events.append({"user_id": user, "event_type": event_type})
    assert api.post("/events/batch", json=events).status_code == 201


def test_make_start_and_read(visiting: Any, api: httpx.Client) -> None:
    """An experiment is made in the form, users and events come, and the page says to ship the variant that is better."""
    with visiting("editor") as visit:
        page = visit.page
        page.get_by_role("link", name="New experiment").click()
        page.get_by_label("Name", exact=True).first.fill("Blue button")
        page.get_by_label("Hypothesis").fill("Blue is bought more.")
        page.locator('input[name="/variants/1/name"]').fill("blue")
        page.locator('input[name="/variants/1/config"]').fill('{"color": "blue"}')
        page.get_by_label("Primary metric").fill("purchase")
        page.get_by_role("button", name="Start now").click()
        page.wait_for_url("**/dashboard/experiments/blue-button")
        expect(page.get_by_text("There is nothing to compare yet").first).to_be_visible()

        send(api, "blue-button", "purchase", {"control": 0.1, "blue": 0.5})
        visit.go("/dashboard/experiments/blue-button")

        expect(page.get_by_role("heading", name="Ship blue")).to_be_visible()
        expect(page.locator(".forest-table").first).to_contain_text("better")
        page.locator(".forest-table td button.term").first.click()
        expect(page.locator("[popover]:popover-open")).to_contain_text("Standard error")
        page.keyboard.press("Escape")
        page.get_by_role("columnheader").get_by_role("button", name="purchase").click()
        expect(page.locator("[popover]:popover-open")).to_contain_text("at least one purchase event")
        page.keyboard.press("Escape")
        page.emulate_media(media="print")
        expect(page.locator(".bar")).to_be_hidden()
        expect(page.locator(".forest-table").first).to_be_visible()
        page.emulate_media(media="screen")
        page.get_by_role("link", name="Bayesian").click()
        page.wait_for_url("**method=bayesian")
        expect(page.get_by_text("What to believe of the lift")).to_be_visible()
        page.wait_for_load_state("networkidle")
        expect(page.locator("#time + div svg").first).to_be_visible()
        found = api.get("/experiments/blue-button/results").json()
        shown = page.locator(".facts dd").first.inner_text()
        assert int(shown.replace(",", "")) == found["summary"]["total_users"] == 400
        assert api.get("/experiments/blue-button").json()["variants"][1]["config"] == {"color": "blue"}

        visit.go("/")
        row = page.get_by_role("row", name=re.compile("Blue button"))
        expect(row.locator(".small-forest svg")).to_be_visible()
        expect(row).to_contain_text("400")


def test_a_running_page_refreshes_by_itself(visiting: Any, api: httpx.Client) -> None:
    """What comes while somebody looks is shown without asking."""
    made = {"name": "live", "primary_metric": "buy", "variants": [{"name": "a"}, {"name": "b"}]}
    api.post("/experiments", json=made)
    with visiting("viewer") as visit:
        visit.page.clock.install()
        page = visit.go("/dashboard/experiments/live")
        expect(page.locator(".facts dd").first).to_have_text("0")
        api.get("/experiments/live/assignment/somebody")

        visit.page.clock.fast_forward("00:31")

        expect(page.locator(".facts dd").first).to_have_text("1")


def test_faults_come_back_to_their_fields(visiting: Any) -> None:
    """What the API refuses is said at the field, which gets the focus; nothing is made."""
    with visiting("editor") as visit:
        page = visit.go("/dashboard/new")
        visit.expected.add(422)
        page.get_by_label("Name", exact=True).first.fill("Two of a kind")
        page.locator('input[name="/variants/1/name"]').fill("control")
        page.get_by_role("button", name="Save as a draft").click()

        fault = page.locator(".field-fault")
        expect(fault).to_be_visible()
        expect(page.locator('[aria-invalid="true"]')).to_be_focused()

        page.locator('input[name="/variants/1/config"]').fill("{not json")
        page.get_by_role("button", name="Save as a draft").click()
        expect(page.locator('input[name="/variants/1/config"] ~ .field-fault')).to_have_text("is not valid JSON")


def test_only_what_was_changed_is_sent(visiting: Any, api: httpx.Client) -> None:
    """And what somebody else changed meanwhile is not undone: the version is old then."""
    made = {"name": "edited", "primary_metric": "buy", "variants": [{"name": "a"}, {"name": "b"}], "tags": ["one"]}
    identity = api.post("/experiments", json=made).json()["id"]
    with visiting("editor") as visit:
        page = visit.go("/dashboard/experiments/edited/edit")
        with page.expect_request(lambda request: request.method == "PATCH") as sent:
            page.get_by_label("Hypothesis").fill("because")
            page.get_by_role("button", name="Save the changes").click()
        assert sent.value.post_data_json == {"hypothesis": "because", "version": 1}
        page.wait_for_url("**/dashboard/experiments/edited")
        assert api.get(f"/experiments/{identity}").json()["hypothesis"] == "because"

        page = visit.go("/dashboard/experiments/edited/edit")
        api.patch(f"/experiments/{identity}", json={"hypothesis": "no"})
        visit.expected.add(409)
        page.get_by_label("Hypothesis").fill("yes")
        page.get_by_role("button", name="Save the changes").click()
        expect(page.locator("#experiment > section p.fault")).to_contain_text("version")
        assert api.get(f"/experiments/{identity}").json()["hypothesis"] == "no"


def test_what_is_emptied_is_taken_away(visiting: Any, api: httpx.Client) -> None:
    """Lists, an owner, overrides: an empty field is no unchanged one."""
    made = {
        "name": "emptied", "status": "draft", "tags": ["one"], "owner": "ann", "metrics": ["view"],
        "variants": [{"name": "a"}, {"name": "b"}], "overrides": [{"variant": "b", "users": ["tester"]}],
    }  # fmt: skip
    api.post("/experiments", json=made)
    with visiting("editor") as visit:
        page = visit.go("/dashboard/experiments/emptied/edit")
        page.locator('[data-rows-of="metrics"]').get_by_role("button", name="Remove").click()
        page.get_by_label("Owner").fill("")
        page.get_by_label("Tags").fill("")
        page.get_by_text("Layers, overrides").click()
        page.get_by_label("Overrides").fill("")
        page.get_by_role("button", name="Save the changes").click()
        page.wait_for_url("**/dashboard/experiments/emptied")

    found = api.get("/experiments/emptied").json()
    assert [found[name] for name in ("tags", "owner", "metrics", "overrides")] == [[], "", [], []]


def test_metrics_are_defined_changed_and_archived(visiting: Any, api: httpx.Client) -> None:
    """By the form, as JSON, and what is taken out of the JSON is gone."""
    with visiting("editor") as visit:
        page = visit.go("/dashboard/metrics")
        page.locator('input[name="/key"]').fill("order-value")
        page.locator('select[name="/kind"]').select_option("sum")
        page.locator('input[name="/event_type"]').fill("order")
        page.get_by_text("Value, window, direction").click()
        page.locator('input[name="/value"]').fill("price")
        page.locator('input[name="/minimum_effect"]').fill("0.02")
        page.get_by_role("button", name="Define", exact=True).first.click()
        card = page.locator('[id="order-value"]')
        expect(card).to_contain_text("The sum of price of order events per user")

        card.get_by_text("Definition", exact=True).click()
        card.locator("textarea").fill('{"kind": "sum", "event_type": "order", "value": "amount"}')
        card.get_by_role("button", name="Save a new version").click()
        expect(card).to_contain_text("The sum of amount of order events per user")
        expect(card).to_contain_text("Version 2")
        assert "minimum_effect" not in api.get("/metric-definitions/order-value").json()

        page.on("dialog", lambda dialog: dialog.accept())
        card.get_by_text("Definition", exact=True).click()
        card.get_by_role("button", name="Archive").click()
        expect(card).to_have_count(0)


def test_a_second_person_agrees(visiting: Any, api: httpx.Client) -> None:
    """Asked for in Settings, a start waits until somebody else agrees to it."""
    made = {"name": "guarded", "status": "draft", "variants": [{"name": "a"}, {"name": "b"}]}
    api.post("/experiments", json=made)
    with visiting("admin") as admin, visiting("editor") as editor:
        choice = admin.go("/dashboard/settings").get_by_label("the start of an experiment")
        choice.check()
        guarded = admin.page.get_by_role("region", name="A second person")
        guarded.get_by_role("button", name="Save").click()
        admin.page.wait_for_load_state("networkidle")
        try:
            editor.go("/dashboard/experiments/guarded/edit").get_by_role("button", name="Start", exact=True).click()
            editor.page.wait_for_url("**/dashboard/experiments/guarded")
            assert api.get("/experiments/guarded").json()["status"] == "draft"
            page = admin.go("/dashboard/experiments/guarded/edit")
            expect(page.get_by_text("editor@example.com asked to start it")).to_be_visible()
            page.get_by_role("button", name="Agree").click()
            expect(page.locator("h1 .status")).to_have_text("running")
        finally:
            api.patch("/client", json={"approvals": []})


def test_targeting_is_built(visiting: Any, api: httpx.Client) -> None:
    """Conditions become the rule that the API gets."""
    with visiting("editor") as visit:
        page = visit.go("/dashboard/new")
        page.get_by_label("Name", exact=True).first.fill("Targeted")
        page.get_by_role("button", name="Add a condition").click()
        page.get_by_label("Attribute").fill("country")
        page.locator('[data-part="operator"]').select_option("in")
        page.get_by_label("Value").fill("US, CA")
        page.get_by_role("button", name="Save as a draft").click()
        page.wait_for_url("**/dashboard/experiments/targeted")

    assert api.get("/experiments/targeted").json()["targeting"] == {
        "attribute": "country",
        "operator": "in",
        "value": ["US", "CA"],
    }


def test_a_plan_beside(visiting: Any) -> None:
    """The planner says how many users, draws the curve, and hands the users over."""
    with visiting("editor") as visit:
        page = visit.go("/dashboard/new")
        page.get_by_role("button", name="Plan", exact=True).click()
        expect(page.locator("#plan svg")).to_be_visible()
        page.get_by_role("button", name="Plan the experiment with these users").click()
        planned = int(page.locator('input[name="/plan/planned_users"]').input_value())

        assert 20_000 < planned < 200_000
        visit.expected.add(422)
        page.get_by_label("Rate today, %").fill("100")
        page.locator("[data-plan]").evaluate("form => form.noValidate = true")
        page.get_by_role("button", name="Plan", exact=True).click()
        expect(page.locator("#plan .fault")).to_contain_text("cannot be planned")


def test_lifecycle(visiting: Any, api: httpx.Client) -> None:
    """Start, pause, resume, complete with a winner, archive: by buttons."""
    made = {"name": "cycle", "status": "draft", "variants": [{"name": "a"}, {"name": "b"}]}
    api.post("/experiments", json=made)
    with visiting("editor") as visit:
        page = visit.go("/dashboard/experiments/cycle/edit")
        page.get_by_role("button", name="Start", exact=True).click()
        page.wait_for_url("**/dashboard/experiments/cycle")
        for button, status in (("Pause", "paused"), ("Resume", "running")):
            visit.go("/dashboard/experiments/cycle/edit")
            page.get_by_role("button", name=button).click()
            expect(page.locator("h1 .status")).to_have_text(status)
        visit.go("/dashboard/experiments/cycle/edit")
        page.get_by_label("Ship").select_option("b")
        page.get_by_role("button", name="Complete").click()
        page.wait_for_url("**/dashboard/experiments/cycle")
        assert api.get("/experiments/cycle").json()["winner"] == "b"
        visit.go("/dashboard/experiments/cycle/edit")
        page.get_by_role("button", name="Archive").click()
        page.wait_for_url(visit.base + "/")
    assert api.get("/experiments/cycle").json()["status"] == "archived"


def test_the_doctor_finds_a_planted_mistake(visiting: Any, api: httpx.Client) -> None:
    """`Purchase` is sent where `purchase` is awaited; with the right name it finds nothing of the kind."""
    for key, sent in (("mistaken", "Checkout Done"), ("right", "checkout_right")):
        awaited = {"mistaken": "checkout_done", "right": "checkout_right"}[key]
        api.post(
            "/experiments", json={"name": key, "primary_metric": awaited, "variants": [{"name": "a"}, {"name": "b"}]}
        )
        send(api, key, sent, {"a": 0.5, "b": 0.5}, users=20)
    with visiting("viewer") as visit:
        page = visit.go("/dashboard/experiments/mistaken/doctor")
        expect(page.locator("#findings")).to_contain_text("you send Checkout Done")
        expect(page.locator(".tail")).to_contain_text("checkout_right")
        page = visit.go("/dashboard/experiments/right/doctor")
        expect(page.locator("#findings")).not_to_contain_text("you send")
        api.post("/events", json={"user_id": "right-1", "event_type": "just-now"})
        expect(page.locator(".tail")).to_contain_text("just-now")


def test_keyboard(visiting: Any, api: httpx.Client) -> None:
    """Slash searches, j and k walk."""
    for name in ("targeted by keys", "another"):
        api.post("/experiments", json={"name": name, "status": "draft", "variants": [{"name": "a"}, {"name": "b"}]})
    with visiting("viewer") as visit:
        page = visit.go("/")
        page.keyboard.press("j")
        expect(page.locator("[data-rows] th a").first).to_be_focused()
        page.keyboard.press("/")
        expect(page.get_by_label("Search")).to_be_focused()
        page.keyboard.type("by keys")
        page.keyboard.press("Enter")
        page.wait_for_url("**search=by+keys")
        expect(page.locator("[data-rows] tbody tr")).to_have_count(1)
