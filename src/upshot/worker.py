"""Work that goes on beside the requests. In one process it runs inside the server."""

import asyncio
import logging

from upshot.errors import UpshotError
from upshot.operations import Stores

PAUSE = 1.0

log = logging.getLogger(__name__)


async def relay_exposures(stores: Stores) -> None:
    """Relay exposures to the event store as they come, until cancelled; what fails is tried again."""
    while True:
        await stores.relay.wait(PAUSE)
        try:
            await stores.relay.run()
        except UpshotError as error:
            log.warning("exposures wait to be relayed: %s", error.detail)
            await asyncio.sleep(PAUSE)
