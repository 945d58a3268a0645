"""Rules of the image and of the compose file; each is shown to fail on a variant that breaks it."""

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = (ROOT / "compose.yaml").read_text(encoding="utf-8")
PROFILES = {"mysql", "scale", "tools"}
WRITING = {"pgadmin"}  # the image cannot start on a read-only root
BIN = Path(sys.executable).parent

Services = dict[str, dict[str, Any]]


def services_of(compose: str) -> Services:
    """The services, anchors and merges resolved; no two share an object."""
    loaded: Services = json.loads(json.dumps(YAML(typ="safe", pure=True).load(compose)["services"]))
    return loaded


SERVICES = services_of(COMPOSE)


def unguarded(services: Services) -> Iterator[str]:
    """Services that run on and have no health check; Upshot's own have that of the image."""
    for name, service in services.items():
        check = service.get("healthcheck", {"disable": "build" not in service})
        if check.get("disable") and service.get("command") != ["migrate"]:
            yield name


def privileged(services: Services) -> Iterator[str]:
    """Services that may do more than they need."""
    for name, service in services.items():
        if service.get("privileged") or service.get("cap_drop") != ["ALL"]:
            yield f"{name}: capabilities"
        if "no-new-privileges:true" not in service.get("security_opt", []):
            yield f"{name}: new privileges"
        if not service.get("read_only") and name not in WRITING:
            yield f"{name}: writable root"
        if "/tmp" not in {folder.partition(":")[0] for folder in service.get("tmpfs", [])}:  # noqa: S108 - of the container
            yield f"{name}: no /tmp"


def unpinned(services: Services) -> Iterator[str]:
    """Services whose image is not of one version."""
    for name, service in services.items():
        if not re.fullmatch(r"[\w./-]+:\d[\w.-]+", service.get("image", "")):
            yield name


def unbounded(services: Services) -> Iterator[str]:
    """Services that may take all memory."""
    return (name for name, service in services.items() if "mem_limit" not in service)


def exposed(services: Services) -> Iterator[str]:
    """Ports that others than this machine reach."""
    for name, service in services.items():
        for port in service.get("ports", []):
            if not port.startswith("127.0.0.1:"):
                yield f"{name}: {port}"


def hasty(services: Services) -> Iterator[str]:
    """Dependencies that are not waited for, and servers and workers that start before the schema is there."""
    for name, service in services.items():
        needed = service.get("depends_on", {})
        awaited = {
            other
            for other, wait in needed.items()
            if services[other].get("command") == ["migrate"] and wait["condition"] == "service_completed_successfully"
        }
        for other, wait in needed.items():
            if other not in awaited and wait["condition"] != "service_healthy":
                yield f"{name}: {other}"
            if not set(services[other].get("profiles", [])) <= set(service.get("profiles", [])):
                yield f"{name}: {other} is of another profile"
        if "build" in service and service.get("command") != ["migrate"] and not awaited:
            yield f"{name}: no migration"


def careless(services: Services) -> Iterator[str]:
    """Passwords that are written down, or that may be missing or empty."""
    text = json.dumps(services)
    required = set(re.findall(r"\$\{(\w+):\?", text))
    for name, rest in re.findall(r"\$\{(\w+)([^}]*)\}", text):
        if re.search("PASSWORD|TOKEN", name) and (name not in required or rest.startswith(":-")):
            yield name
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|TOKEN", variable) and not str(value).startswith("${"):
                yield f"{name}: {variable}"


def changed(service: str, **values: Any) -> Services:
    """The services, one of them with other values; None takes a value away."""
    services = copy.deepcopy(SERVICES)
    services[service].update(values)
    services[service] = {name: value for name, value in services[service].items() if value is not None}
    return services


BROKEN: list[tuple[Callable[[Services], Iterator[str]], Services]] = [
    (unguarded, changed("redis", healthcheck=None)),
    (unguarded, changed("worker", healthcheck={"disable": True})),
    (privileged, changed("upshot", privileged=True)),
    (privileged, changed("kafka", cap_drop=None)),
    (privileged, changed("mysql", security_opt=None)),
    (privileged, changed("clickhouse", read_only=None)),
    (privileged, changed("upshot", tmpfs=["/data"])),
    (unpinned, changed("redis", image="redis:latest")),
    (unpinned, changed("redis", image="redis")),
    (unbounded, changed("postgres", mem_limit=None)),
    (exposed, changed("upshot", ports=["8000:8000"])),
    (hasty, changed("upshot", depends_on=None)),
    (hasty, changed("upshot", depends_on={"migrate": {"condition": "service_started"}})),
    (hasty, changed("migrate", depends_on={"postgres": {"condition": "service_started"}})),
    (hasty, changed("worker", depends_on={"migrate-scale": {"condition": "service_completed_successfully"}})),
    (careless, changed("upshot", environment={"VALID_TOKENS": "${OTHER_TOKEN}"})),
    (careless, changed("mysql", environment={"MYSQL_PASSWORD": "secret"})),
]


@pytest.mark.parametrize("rule", dict.fromkeys(rule for rule, _ in BROKEN), ids=lambda rule: rule.__name__)
def test_the_compose_file_keeps_the_rules(rule: Callable[[Services], Iterator[str]]) -> None:
    """Every service of every profile."""
    assert list(rule(SERVICES)) == []


@pytest.mark.parametrize(
    ("rule", "services"), BROKEN, ids=[f"{rule.__name__}-{n}" for n, (rule, _) in enumerate(BROKEN)]
)
def test_a_broken_compose_file_is_found(rule: Callable[[Services], Iterator[str]], services: Services) -> None:
    """The check above can fail."""
    assert list(rule(services)) != []


def test_every_profile_has_a_server_and_is_documented() -> None:
    """A way to run Upshot is one that its page tells."""
    page = (ROOT / "docs" / "containers.md").read_text(encoding="utf-8")

    assert {profile for service in SERVICES.values() for profile in service.get("profiles", [])} == PROFILES
    assert {"upshot", "upshot-mysql", "upshot-scale"} <= SERVICES.keys()
    assert [name for name in PROFILES if f"`{name}`" not in page] == []
    assert sorted(set(re.findall(r"\$\{(\w+):\?", COMPOSE)) - set(re.findall(r"\w+", page))) == []


def test_every_volume_is_documented() -> None:
    """What has to be backed up, or need not be, is said."""
    page = (ROOT / "docs" / "containers.md").read_text(encoding="utf-8")
    volumes = YAML(typ="safe", pure=True).load(COMPOSE)["volumes"]

    assert [name for name in volumes if f"`{name}`" not in page] == []


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ("", False),
        ("\nFROM python\n", True),
        ("\nADD src src\nRUN sudo pip install upshot && cd /tmp\n", True),
    ],
    ids=["ours", "untagged", "sudo"],
)
def test_hadolint_has_nothing_to_say_about_the_dockerfile(wrong: str, *, found: bool) -> None:
    """Nor is it silent about everything."""
    done = subprocess.run(
        [BIN / "hadolint", "-"], input=DOCKERFILE + wrong, capture_output=True, text=True, check=False
    )

    assert (done.returncode != 0) == found, done.stdout


@pytest.mark.parametrize("wrong", ["", "\nservice:\n  upshot: {}\n"], ids=["ours", "a misspelt key"])
def test_the_compose_file_follows_the_specification(tmp_path: Path, wrong: str) -> None:
    """And what does not is found."""
    (tmp_path / "compose.yaml").write_text(COMPOSE + wrong, encoding="utf-8")
    checking = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]

    done = subprocess.run([*checking, str(tmp_path / "compose.yaml")], capture_output=True, text=True, check=False)

    assert (done.returncode == 0) == (not wrong), done.stdout


def stages(dockerfile: str) -> list[str]:
    """The stages of a Dockerfile."""
    return re.split(r"^FROM ", dockerfile, flags=re.MULTILINE)[1:]


def loose(dockerfile: str) -> list[str]:
    """What the final stage lacks, or has and must not have."""
    final = stages(dockerfile)[-1]
    wanted = ("USER 10001:10001", "STOPSIGNAL SIGTERM", "HEALTHCHECK", "VOLUME /data", 'ENTRYPOINT ["upshot"]')
    locked = all(
        "--require-hashes" in line for line in dockerfile.splitlines() if re.search(r"pip .*install.* -r ", line)
    )
    return [
        *(line for line in wanted if line not in final),
        *re.findall("pip|apt|gcc", final),
        *([] if locked else ["an installation without hashes"]),
    ]


def test_the_image_runs_as_nobody_in_particular_and_builds_nothing() -> None:
    """The final stage has a user, a signal, a check and no tools; requirements come with their hashes."""
    broken = [
        DOCKERFILE.replace("USER 10001:10001\n", ""),
        DOCKERFILE.replace("--require-hashes ", ""),
        DOCKERFILE.replace("USER 10001", "RUN pip install upshot\nUSER 10001"),
    ]

    assert loose(DOCKERFILE) == []
    assert [loose(dockerfile) != [] for dockerfile in broken] == [True] * 3


def test_the_image_runs_the_versions_that_are_tested() -> None:
    """What the image installs, the tests have installed, too."""

    def pins(name: str) -> set[str]:
        return set(re.findall(r"^(\S+==\S+)", (ROOT / "requirements" / name).read_text(encoding="utf-8"), re.MULTILINE))

    assert pins("container.txt") | pins("build.txt") <= pins("dev.txt")


def test_the_health_check_of_the_image_is_a_program() -> None:
    """Its quotes survive the JSON of the Dockerfile."""
    command = re.search(r"^HEALTHCHECK.* CMD (\[.*?\"\])$", DOCKERFILE.replace("\\\n", ""), re.MULTILINE)
    assert command is not None
    interpreter, option, program = json.loads(command[1])

    assert (interpreter, option) == ("python", "-c")
    compile(program, "HEALTHCHECK", "exec")
