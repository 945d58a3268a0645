"""`upshot user` and `upshot key`: people and API keys, made by whoever runs the machine, or with the token of an admin."""

import sys
from typing import Any

import click
import httpx

from upshot.access import DEFAULT_CLIENT, Role, Scope
from upshot.access.users import email_of
from upshot.cli import options
from upshot.cli.connection import asked, request

USERS = "/users"
KEYS = "/api-keys"

_client = click.option("--client", default=DEFAULT_CLIENT, show_default=True, help="Whose people or keys.")


@click.group()
def user() -> None:
    """People: accounts, roles, invitations."""


@user.command("create")
@click.argument("email")
@click.option(
    "--role",
    type=click.Choice([str(role) for role in Role]),
    default="admin",
    show_default=True,
    help="What they may do.",
)
@click.option("--name", default="", help="What to call them.")
@click.option("--password-stdin", is_flag=True, help="Read a password from standard input instead of inviting them.")
@_client
@options.server
def create_user(email: str, role: str, name: str, *, password_stdin: bool, client: str, **where: Any) -> None:
    """Make an account for EMAIL; prints the link by which they choose a password."""
    wanted = {"email": email, "role": role, "name": name}
    if password_stdin:
        wanted["password"] = sys.stdin.readline().rstrip("\n")

    async def create(api: httpx.AsyncClient) -> str:
        made = (await request(api, "POST", USERS, json=wanted)).json()
        return f"{made['email']} is {made['role']}" + _link(api, made["invitation"])

    click.echo(asked(create, client=client, **where))


@user.command("list")
@_client
@options.server
def list_users(client: str, **where: Any) -> None:
    """List people: address, role, state, name."""

    async def every(api: httpx.AsyncClient) -> list[dict[str, Any]]:
        return list((await request(api, "GET", USERS)).json()["users"])

    found = asked(every, client=client, **where)
    for one in found:
        state = "disabled" if one["disabled"] else "active" if one["joined"] else "invited"
        click.echo(f"{one['email']}\t{one['role']}\t{state}\t{one['name']}".rstrip())
    if not found:
        click.echo("there are none")


@user.command("invite")
@click.argument("email")
@_client
@options.server
def invite_user(email: str, client: str, **where: Any) -> None:
    """Print a new link by which EMAIL chooses a password; earlier ones are void."""

    async def invite(api: httpx.AsyncClient) -> str:
        found = await _user(api, email)
        made = (await request(api, "POST", f"{USERS}/{found['id']}/invitation")).json()
        return f"{found['email']} is {found['role']}" + _link(api, made["invitation"])

    click.echo(asked(invite, client=client, **where))


@user.command("change")
@click.argument("email")
@click.option("--role", type=click.Choice([str(role) for role in Role]), help="What they may do from now on.")
@click.option("--disable/--enable", "disabled", default=None, help="Whether they may sign in.")
@_client
@options.server
def change_user(email: str, role: str | None, *, disabled: bool | None, client: str, **where: Any) -> None:
    """Change what EMAIL may do; their sessions end."""
    changes = {name: value for name, value in {"role": role, "disabled": disabled}.items() if value is not None}
    if not changes:
        raise click.UsageError("give --role, --disable or --enable")

    async def change(api: httpx.AsyncClient) -> None:
        await request(api, "PATCH", f"{USERS}/{(await _user(api, email))['id']}", json=changes)

    asked(change, client=client, **where)
    click.echo(f"{email} is changed")


@user.command("reset-factor")
@click.argument("email")
@_client
@options.server
def reset_factor(email: str, client: str, **where: Any) -> None:
    """Take off the second factor of EMAIL, who has lost it; their sessions end."""

    async def reset(api: httpx.AsyncClient) -> None:
        await request(api, "DELETE", f"{USERS}/{(await _user(api, email))['id']}/factor")

    asked(reset, client=client, **where)
    click.echo(f"{email} signs in by the password alone")


@user.command("remove")
@click.argument("email")
@_client
@options.server
def remove_user(email: str, client: str, **where: Any) -> None:
    """Remove the account of EMAIL; what they did stays in the audit log."""

    async def remove(api: httpx.AsyncClient) -> None:
        await request(api, "DELETE", f"{USERS}/{(await _user(api, email))['id']}")

    asked(remove, client=client, **where)
    click.echo(f"{email} is removed")


@click.group()
def key() -> None:
    """API keys: made, rotated, revoked."""


@key.command("create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([str(scope) for scope in Scope]),
    multiple=True,
    required=True,
    help="May be repeated.",
)
@click.option(
    "--origin", "origins", multiple=True, help="Of a key for browsers: https://shop.example.com; may be repeated."
)
@click.option("--days", type=click.IntRange(1, 3_650), default=365, show_default=True, help="How long it is good.")
@_client
@options.server
def create_key(
    name: str, scopes: tuple[str, ...], origins: tuple[str, ...], days: int, client: str, **where: Any
) -> None:
    """Make a key called NAME and print it, this once."""
    wanted = {"name": name, "scopes": list(scopes), "origins": list(origins), "expires_in_days": days}

    async def create(api: httpx.AsyncClient) -> str:
        return str((await request(api, "POST", KEYS, json=wanted)).json()["key"])

    click.echo(asked(create, client=client, **where))


@key.command("list")
@_client
@options.server
def list_keys(client: str, **where: Any) -> None:
    """List keys: id, name, state, scopes, last use."""

    async def every(api: httpx.AsyncClient) -> list[dict[str, Any]]:
        return list((await request(api, "GET", KEYS)).json()["api_keys"])

    found = asked(every, client=client, **where)
    for one in found:
        state = "active" if one["active"] else "ended"
        used = one["last_used_at"] or "never used"
        click.echo(f"{one['id']}\t{one['name']}\t{state}\t{','.join(one['scopes'])}\t{used}")
    if not found:
        click.echo("there are none")


@key.command("rotate")
@click.argument("id")
@click.option("--hours", type=click.IntRange(0, 720), default=24, show_default=True, help="How long both are good.")
@_client
@options.server
def rotate_key(id: str, hours: int, client: str, **where: Any) -> None:  # noqa: A002 - the argument's name in the help
    """Print a new key in place of ID, this once; the old one stays good for some hours."""

    async def rotate(api: httpx.AsyncClient) -> str:
        answer = await request(api, "POST", f"{KEYS}/{id}/rotate", json={"overlap_hours": hours})
        return str(answer.json()["key"])

    click.echo(asked(rotate, client=client, **where))


@key.command("revoke")
@click.argument("id")
@_client
@options.server
def revoke_key(id: str, client: str, **where: Any) -> None:  # noqa: A002
    """End the key ID; every process refuses it within 5 seconds."""

    async def revoke(api: httpx.AsyncClient) -> None:
        await request(api, "DELETE", f"{KEYS}/{id}")

    asked(revoke, client=client, **where)
    click.echo(f"{id} is revoked")


async def _user(api: httpx.AsyncClient, email: str) -> dict[str, Any]:
    users = (await request(api, "GET", USERS)).json()["users"]
    found = [one for one in users if one["email"] == email_of(email)]
    if not found:
        raise click.BadParameter("there is no such person", param_hint="EMAIL")
    return dict(found[0])


def _link(api: httpx.AsyncClient, invitation: str | None) -> str:
    if invitation is None:
        return ""
    return f"; the link is good once, for a day:\n  {str(api.base_url).rstrip('/')}/setup#{invitation}"
