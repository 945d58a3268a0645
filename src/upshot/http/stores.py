"""The stores of the running application, as a dependency; and the query rule that every route shares."""

from typing import Annotated

from fastapi import Depends, Request

from upshot.errors import Fault, Invalid
from upshot.operations import Stores


def _stores(request: Request) -> Stores:
    stores: Stores = request.app.state.stores
    return stores


StoresOf = Annotated[Stores, Depends(_stores)]


def refuse_repeated(request: Request) -> None:
    """A query parameter that is said twice means different things to different readers.

    Raises:
        Invalid: one is.
    """
    names = [name for name, _ in request.query_params.multi_items()]
    if len(names) != len(set(names)):
        raise Invalid.of(Fault("/query", "repeated_parameter", "a query parameter must not be given twice"))
