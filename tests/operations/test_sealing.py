"""Secrets that a former key sealed are sealed with the new one, so that the former one can be taken away."""

import pytest
from tests.callers import somebody
from tests.http.world import PASSWORD

from upshot.access import Role
from upshot.access.keyring import Keyring
from upshot.access.passwords import Passwords
from upshot.operations import Stores, people, schedule, sealing, signin, webhooks
from upshot.operations.people import Wanted
from upshot.webhooks import Form, Occasion

FORMER, PRESENT = "Qm9o" * 3 + "xT7-kLw2_vRz9pYc" * 3, "aZ4_" * 3 + "hN8+sJq5/fWb3mXd" * 3


@pytest.fixture
async def sealed(stores: Stores) -> Stores:
    """Stores with a webhook and a second factor, sealed by the former key."""
    made = with_keys(stores, FORMER)
    object.__setattr__(made, "passwords", Passwords(memory_kib=8))
    await webhooks.create(made, somebody("hooked"), "https://example.com/hook", [Occasion.STARTED], Form.STANDARD)
    await people.create(made, somebody("one"), Wanted("ann@example.com", "Ann", Role.ADMIN), PASSWORD)
    await signin.set_up(made, "one", "ann@example.com", PASSWORD)
    return made


def with_keys(stores: Stores, *keys: str) -> Stores:
    """The same stores with another keyring."""
    object.__setattr__(stores, "keyring", Keyring("HS256", keys))
    return stores


async def readable(stores: Stores) -> tuple[bool, bool]:
    """Whether the webhook and the factor can be opened."""
    (hook,) = await webhooks.every(stores, "hooked")
    (ann,) = await people.every(stores, "one")
    return bool(hook.url and hook.secret), bool(ann.factor and stores.keyring.open(ann.factor.secret))


async def test_a_former_key_is_needed_no_more(sealed: Stores) -> None:
    """After the scheduled work has been there once; the second time there is nothing to do."""
    both = with_keys(sealed, PRESENT, FORMER)

    assert await schedule.seals(both, schedule.Policy()) == "3 secrets sealed anew"
    assert await sealing.renew(both) == 0
    assert await readable(with_keys(sealed, PRESENT)) == (True, True)


async def test_without_it_the_former_key_is_needed(sealed: Stores) -> None:
    """The negative control; and what no key opens is left as it is."""
    assert await readable(with_keys(sealed, PRESENT)) == (False, False)
    assert await sealing.renew(sealed) == 0
    assert await readable(with_keys(sealed, FORMER)) == (True, True)
