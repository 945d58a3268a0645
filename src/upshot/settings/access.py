"""Settings that say who may come in."""

import json
from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode

from upshot.access import DEFAULT_CLIENT, EVERYONE
from upshot.environment import listed, plain

TOKEN_LENGTH = 8
CLIENT_LENGTH = 120


class AccessSettings(BaseSettings):
    """Tokens of the environment, signing keys, sign-in by a provider."""

    valid_tokens: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        validation_alias=plain("VALID_TOKENS"),
        description='Bearer tokens of the client "default": separated by commas, or a JSON list.',
    )
    token_client_id_map: Annotated[dict[str, str], NoDecode] = Field(
        default_factory=dict,
        validation_alias=plain("TOKEN_CLIENT_ID_MAP"),
        description="Which client a token belongs to: a JSON object, or token:client pairs separated by commas.",
    )  # fmt: skip
    sixpack_client: str | None = Field(
        None,
        max_length=CLIENT_LENGTH,
        description="The client whose experiments `/participate` and `/convert` of Sixpack's clients are about. They know no "
        "credential: open this door only where strangers cannot come. By default it is closed.",
    )
    jwt_secret_key: SecretStr | None = Field(
        None,
        validation_alias=plain("JWT_SECRET_KEY"),
        description="Signs access tokens and seals secrets: at least 32 random bytes, or a private key as PEM; without it, "
        "one of the data folder, which several machines do not share.",
    )
    jwt_previous_secret_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        validation_alias=plain("JWT_PREVIOUS_SECRET_KEYS"),
        description="Keys that sign no more and are still believed, while one is replaced: separated by commas, or a JSON list.",
    )
    jwt_algorithm: str = Field(
        "HS256",
        validation_alias=plain("JWT_ALGORITHM"),
        description="The one algorithm of access tokens: HS256, HS384, HS512, RS256, PS256, ES256, ES384 or Ed25519.",
    )
    jwt_expiration_minutes: int = Field(
        15,
        ge=1,
        le=60,
        validation_alias=plain("JWT_EXPIRATION_MINUTES"),
        description="How long an access token is good; a refresh token brings the next one.",
    )
    public_url: str | None = Field(
        None,
        pattern="^https?://[^/?#]+$",
        description="The address of this server for people, such as https://ab.example.com: "
        "for links in invitations and sign-in by a provider.",
    )
    password_sign_in: bool = Field(
        True,  # noqa: FBT003 - a default
        description="Whether people may sign in by passwords of Upshot's own. Switch it off where all come by a provider.",
    )
    oidc_issuer: str | None = Field(
        None,
        description="Provider that people sign in by (OpenID Connect): its issuer URL, below which its discovery document is.",
    )
    oidc_client_id: str | None = Field(None, description="Who we are to the provider.")
    oidc_client_secret: SecretStr | None = Field(None, description="Our secret there; none for a public client.")
    oidc_scopes: str = Field("openid email profile groups", description="What the provider is asked for.")
    oidc_groups_claim: str = Field("groups", description="The claim that holds a person's groups.")
    oidc_rsa_bits: int = Field(
        2_048,
        ge=2_048,
        description="How many bits an RSA key of the provider has at least. 3072 are as strong as our other keys; nearly all "
        "sign with 2048.",
    )
    oidc_roles: str = Field(
        "",
        description="Which group has which role: group:role pairs separated by commas, or a JSON object; `*` is everybody.",
    )
    oidc_upshot_client: str = Field(DEFAULT_CLIENT, description="The client that people of the provider belong to.")

    @field_validator("jwt_previous_secret_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: Any) -> Any:
        return listed(value)

    @field_validator("valid_tokens", mode="before")
    @classmethod
    def _split_tokens(cls, value: Any) -> Any:
        tokens = listed(value)
        if any(len(token) < TOKEN_LENGTH for token in tokens):
            raise ValueError(f"a token has at least {TOKEN_LENGTH} characters")
        return tokens

    @field_validator("token_client_id_map", mode="before")
    @classmethod
    def _split_map(cls, value: Any) -> Any:
        if isinstance(value, str):
            pairs = [part.strip().rpartition(":") for part in value.split(",") if part.strip()]
            value = (
                json.loads(value) if value.lstrip().startswith("{") else {token: client for token, _, client in pairs}
            )
        mapped = {str(token): str(client) for token, client in dict(value).items()}
        if any(
            not token or not 0 < len(client) <= CLIENT_LENGTH or client == EVERYONE for token, client in mapped.items()
        ):
            raise ValueError("every entry is a token and a client id of at most 120 characters that is not *")
        return mapped
