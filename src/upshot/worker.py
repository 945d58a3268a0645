"""Work that goes on beside the requests. In one process it runs inside the server."""

import asyncio
import logging

from upshot.operations import Stores

PAUSE = 1.0
GATHERING = 1.0

log = logging.getLogger(__name__)


async def relay_exposures(stores: Stores) -> None:
    """Relay exposures to the event store as they come, until cancelled; what fails is tried again.

    They gather for a moment first, so that many share a commit; a result that is asked for relays at once.
    """
    while True:
        await stores.relay.wait(PAUSE)
        await asyncio.sleep(GATHERING)
        try:
            await stores.relay.run()
        except Exception as error:  # noqa: BLE001 - whatever it was, the exposures that come after it must be relayed, too
            log.warning("exposures wait to be relayed: %s", error)
            await asyncio.sleep(PAUSE)
