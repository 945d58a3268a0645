"""A peer that decides over HTTP, where its package is installed: Unleash (npm `unleash-server@6`, Node 18 or 20), on PostgreSQL.

It is no dependency: `UNLEASH` names the folder that `npm install unleash-server@6` was run in. Each of its answers decides anew
for the user; ours is the assignment that is stored.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from tests.backends import free_port, wait_until
from tests.backends.daemon import server_folder
from tests.backends.postgresql import USER, postgresql

PLACE = "UNLEASH"
FRONTEND = "default:development.benchmark-frontend"
ADMIN = "*:*.benchmark-admin"
FLAG = "button"

_PROGRAM = """
require("unleash-server").start({
  db: { connectionString: process.env.DATABASE_URL, ssl: false },
  server: { port: Number(process.env.PORT), host: "127.0.0.1" },
  logLevel: "fatal", versionCheck: { enable: false },
});
"""


@dataclass(frozen=True)
class Peer:
    """A running peer, as the load generator takes a server."""

    url: str
    process: "subprocess.Popen[bytes]"
    version: str


@contextmanager
def unleash() -> Iterator[Peer | None]:
    """Unleash with one flag of three variants, rolled out to everybody; None where it is not installed."""
    place = os.environ.get(PLACE)
    if place is None:
        yield None
        return
    port = free_port()
    with ExitStack() as stack:
        database = stack.enter_context(postgresql(stack.enter_context(server_folder(USER))))
        url = database.database("unleash").replace("postgresql+psycopg://", "postgresql://")
        environment = os.environ | {
            "DATABASE_URL": url,
            "PORT": str(port),
            "NODE_ENV": "production",
            "INIT_FRONTEND_API_TOKENS": FRONTEND,
            "INIT_ADMIN_API_TOKENS": ADMIN,
        }
        process = subprocess.Popen(["node", "-e", _PROGRAM], cwd=place, env=environment)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        base = f"http://127.0.0.1:{port}"
        wait_until(lambda: _is_healthy(base), 120, "Unleash")
        _create(base)
        wait_until(lambda: _is_served(base), 60, "the flag of Unleash")
        package = json.loads((Path(place) / "node_modules/unleash-server/package.json").read_text())
        yield Peer(base, process, package["version"])


def request(user: str) -> bytes:
    """What Unleash is asked for a user, as bytes."""
    head = f"GET /api/frontend?userId={user} HTTP/1.1\r\nHost: bench\r\nAuthorization: {FRONTEND}\r\n"
    return f"{head}Accept: application/json\r\n\r\n".encode()


def _is_healthy(base: str) -> bool:
    try:
        return httpx.get(f"{base}/health").status_code == 200
    except httpx.TransportError:
        return False


def _create(base: str) -> None:
    features = f"{base}/api/admin/projects/default/features"
    variants = [
        {"name": name, "weight": 333 + (name == "green"), "weightType": "variable", "stickiness": "userId"}
        for name in ("control", "blue", "green")
    ]
    strategy = {
        "name": "flexibleRollout",
        "parameters": {"rollout": "100", "stickiness": "userId", "groupId": FLAG},
        "variants": variants,
        "constraints": [],
    }
    environment = f"{features}/{FLAG}/environments/development"
    with httpx.Client(headers={"Authorization": ADMIN}) as admin:
        admin.post(features, json={"name": FLAG, "type": "experiment"}).raise_for_status()
        admin.post(f"{environment}/strategies", json=strategy).raise_for_status()
        admin.post(f"{environment}/on").raise_for_status()


def _is_served(base: str) -> bool:
    answer = httpx.get(f"{base}/api/frontend", params={"userId": "somebody"}, headers={"Authorization": FRONTEND})
    return answer.status_code == 200 and any(each["name"] == FLAG for each in answer.json()["toggles"])
