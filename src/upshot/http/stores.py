"""The stores of the running application, as a dependency: for a request with a key those of `once.py`."""

from typing import Annotated

from fastapi import Depends, Request

from upshot.operations import Stores
from upshot.operations.once import Once


async def _stores(request: Request) -> Stores:
    once: Once | None = getattr(request.state, "once", None)
    stores: Stores = request.app.state.stores if once is None else once.stores
    return stores


StoresOf = Annotated[Stores, Depends(_stores)]
