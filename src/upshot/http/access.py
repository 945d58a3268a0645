"""Who is asking: the bearer token of a request, and the client that it stands for."""

import hmac
from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from upshot.errors import Unauthenticated

_scheme = HTTPBearer(auto_error=False, description="A token from VALID_TOKENS, or the one that `upshot serve` printed.")


class Tokens:
    """The configured tokens, by digest: finding one takes no longer for a token that begins right."""

    def __init__(self, clients: Mapping[str, str]) -> None:
        self._clients = {sha256(token.encode()).digest(): client for token, client in clients.items()}

    def client_of(self, authorization: bytes | None) -> str | None:
        """The client that an Authorization header speaks for, or None."""
        if authorization is None or authorization[:7].lower() != b"bearer ":
            return None
        digest = sha256(authorization[7:].strip()).digest()
        for known, client in self._clients.items():
            if hmac.compare_digest(known, digest):
                return client
        return None


async def _client(request: Request, _shown_in_docs: Annotated[object, Depends(_scheme)]) -> str:
    """The client of a request.

    Raises:
        Unauthenticated: there is no token, or not one of ours.
    """
    tokens: Tokens = request.app.state.tokens
    header = request.headers.get("authorization")
    client = tokens.client_of(header.encode("latin-1") if header else None)
    if client is None:
        raise Unauthenticated("Send `Authorization: Bearer <token>` with a valid token.")
    return client


Client = Annotated[str, Depends(_client)]
