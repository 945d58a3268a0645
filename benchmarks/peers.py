"""SDKs of others, each told the same experiment without a network: three equal variants for users whose country is US or CA.

Each function makes a decider: of a user and what is known of the user, the name of the variant, or None. A peer that is not
installed raises ImportError; `PACKAGES` says what to install, in an environment of its own.
"""

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

Decide = Callable[[str, dict[str, Any]], str | None]

KEY = "checkout"
NAMES = ("control", "blue", "green")
COUNTRIES = ["US", "CA"]
PACKAGES = {
    "growthbook": "growthbook",
    "statsig": "statsig-python-core",
    "eppo": "eppo-server-sdk",
    "unleash": "UnleashClient",
    "optimizely": "optimizely-sdk",
    "OpenFeature in memory": "openfeature-sdk",
}


def growthbook() -> Decide:
    """GrowthBook: one instance, whose attributes are set for each user."""
    from growthbook import GrowthBook  # noqa: PLC0415

    rule = {
        "key": KEY,
        "variations": list(NAMES),
        "condition": {"country": {"$in": COUNTRIES}},
        "hashVersion": 2,
        "meta": [],
    }
    instance = GrowthBook(features={KEY: {"defaultValue": None, "rules": [rule]}})

    def decide(user: str, attributes: dict[str, Any]) -> str | None:
        instance.set_attributes({"id": user, **attributes})
        found: str | None = instance.get_feature_value(KEY, None)
        return found

    return decide


def eppo() -> Decide:
    """Eppo: its engine is written in Rust."""
    import eppo_client  # noqa: PLC0415
    from eppo_client import AssignmentLogger, ClientConfig, Configuration  # noqa: PLC0415

    splits = [
        {
            "variationKey": name,
            "shards": [{"salt": KEY, "ranges": [{"start": place * 3_333, "end": (place + 1) * 3_333}]}],
        }
        for place, name in enumerate(NAMES)
    ]
    condition = {"attribute": "country", "operator": "ONE_OF", "value": COUNTRIES}
    allocation = {"key": "all", "rules": [{"conditions": [condition]}], "splits": splits, "doLog": True}
    flag = {
        "key": KEY, "enabled": True, "variationType": "STRING", "totalShards": 9_999, "allocations": [allocation],
        "variations": {name: {"key": name, "value": name} for name in NAMES},
    }  # fmt: skip
    document = {
        "createdAt": "2026-01-01T00:00:00.000Z", "format": "SERVER", "environment": {"name": "Test"}, "flags": {KEY: flag},
    }  # fmt: skip
    client = eppo_client.init(
        ClientConfig(
            api_key="none", base_url="http://127.0.0.1:9", assignment_logger=AssignmentLogger(), poll_interval_seconds=None,
            initial_configuration=Configuration(flags_configuration=json.dumps(document).encode()),
        )
    )  # fmt: skip
    return lambda user, attributes: client.get_string_assignment(KEY, user, attributes, "") or None


def unleash() -> Decide:
    """Unleash: its engine is written in Rust."""
    from UnleashClient import UnleashClient  # noqa: PLC0415
    from UnleashClient.cache import FileCache  # noqa: PLC0415

    logging.getLogger("UnleashClient").setLevel(logging.CRITICAL)
    variants = [{"name": name, "weight": 333, "weightType": "variable", "stickiness": "userId"} for name in NAMES]
    strategy = {
        "name": "flexibleRollout",
        "parameters": {"rollout": "100", "stickiness": "userId", "groupId": KEY},
        "constraints": [{"contextName": "country", "operator": "IN", "values": COUNTRIES, "inverted": False}],
        "variants": variants,
    }
    cache = FileCache("upshot-benchmark")
    feature = {"name": KEY, "type": "experiment", "enabled": True, "strategies": [strategy], "variants": []}
    cache.bootstrap_from_dict({"version": 2, "features": [feature]})
    client = UnleashClient(
        "http://127.0.0.1:9",
        "benchmark",
        cache=cache,
        disable_metrics=True,
        disable_registration=True,
        verbose_log_level=50,
    )
    client.initialize_client(fetch_toggles=False)

    def decide(user: str, attributes: dict[str, Any]) -> str | None:
        found = client.get_variant(KEY, {"userId": user, "properties": attributes})
        return str(found["name"]) if found["enabled"] else None

    return decide


def optimizely() -> Decide:
    """Optimizely, without its decision events."""
    from optimizely.decision.optimizely_decide_option import OptimizelyDecideOption  # noqa: PLC0415
    from optimizely.optimizely import Optimizely  # noqa: PLC0415

    variations = [{"id": name, "key": name, "featureEnabled": True, "variables": []} for name in NAMES]
    ends = [{"entityId": name, "endOfRange": end} for name, end in zip(NAMES, (3_333, 6_667, 10_000), strict=True)]
    experiment = {
        "id": "e", "key": KEY, "status": "Running", "layerId": "l", "audienceIds": ["a"], "forcedVariations": {},
        "variations": variations, "trafficAllocation": ends,
    }  # fmt: skip
    either = ["or", *(
        {"type": "custom_attribute", "name": "country", "match": "exact", "value": country} for country in COUNTRIES
    )]  # fmt: skip
    document = {
        "version": "4", "rollouts": [], "typedAudiences": [{"id": "a", "name": "a", "conditions": ["and", ["or", either]]}],
        "anonymizeIP": True, "projectId": "p", "accountId": "c", "revision": "1", "botFiltering": False, "variables": [],
        "featureFlags": [{"id": "f", "key": KEY, "rolloutId": "", "experimentIds": ["e"], "variables": []}],
        "experiments": [experiment], "groups": [], "events": [], "attributes": [{"id": "country", "key": "country"}],
        "audiences": [{"id": "a", "name": "a", "conditions": json.dumps(["or", {
            "match": "exact", "name": "$opt_dummy_attribute", "type": "custom_attribute", "value": "none",
        }])}],
    }  # fmt: skip
    client = Optimizely(datafile=json.dumps(document))
    options = [OptimizelyDecideOption.DISABLE_DECISION_EVENT]

    def decide(user: str, attributes: dict[str, Any]) -> str | None:
        context = client.create_user_context(user, attributes)
        assert context is not None
        found: str | None = context.decide(KEY, options).variation_key
        return found

    return decide


def statsig() -> Decide:
    """Statsig: its engine is written in Rust. Its events are turned off."""
    from statsig_python_core import Statsig, StatsigOptions, StatsigUser  # noqa: PLC0415
    from statsig_python_core.data_store import DataStore, DataStoreResponse  # noqa: PLC0415

    def rule(name: str, conditions: list[str], share: float = 100.0) -> dict[str, Any]:
        return {
            "name": name, "groupName": name, "id": name, "salt": name, "passPercentage": share, "conditions": conditions,
            "returnValue": {"variant": name if name in NAMES else ""}, "idType": "userID", "isExperimentGroup": name in NAMES,
        }  # fmt: skip

    def condition(kind: str, operator: str, target: Any, field: str | None = None) -> dict[str, Any]:
        return {
            "type": kind, "operator": operator, "targetValue": target, "field": field, "idType": "userID",
            "additionalValues": {"salt": KEY} if kind == "user_bucket" else {},
        }  # fmt: skip

    thresholds = dict(zip(NAMES, (334, 667, 1_000), strict=True))
    document = {
        "has_updates": True, "time": 1, "company_id": "c", "feature_gates": {}, "layer_configs": {}, "layers": {},
        "param_stores": {}, "id_lists": {}, "experiment_to_layer": {}, "condition_map": {
            "other": condition("user_field", "none", COUNTRIES, "country"),
            **{name: condition("user_bucket", "lt", bound) for name, bound in thresholds.items()},
        },
        "dynamic_configs": {KEY: {
            "name": KEY, "type": "dynamic_config", "salt": KEY, "enabled": True, "isActive": True, "entity": "experiment",
            "idType": "userID", "defaultValue": {"variant": ""}, "hasSharedParams": False, "explicitParameters": [],
            "version": 1, "rules": [rule("targeting", ["other"]), *(rule(name, [name]) for name in NAMES)],
        }},
    }  # fmt: skip

    class Store(DataStore):  # type: ignore[misc]
        def initialize(self) -> None:
            pass

        def shutdown(self) -> None:
            pass

        def get(self, key: str) -> Any:  # noqa: ARG002
            return DataStoreResponse(json.dumps(document), 1)

        def set(self, key: str, value: str, time: int | None = None) -> None:
            pass

        def support_polling_updates_for(self, key: str) -> bool:  # noqa: ARG002
            return False

    options = StatsigOptions(
        data_store=Store(), disable_network=True, disable_all_logging=True, output_log_level="none", disable_country_lookup=True,
        wait_for_country_lookup_init=False, wait_for_user_agent_init=False, disable_disk_access=True,
    )  # fmt: skip
    client = Statsig("secret-none", options)
    client.initialize().wait()

    def decide(user: str, attributes: dict[str, Any]) -> str | None:
        found = client.get_experiment(StatsigUser(user_id=user, country=attributes["country"], custom=attributes), KEY)
        return found.get_string("variant", "") or None

    return decide


def in_memory() -> Decide:
    """OpenFeature's own provider in memory, which leaves the decision to a function: the minimal one."""
    from openfeature import api  # noqa: PLC0415
    from openfeature.evaluation_context import EvaluationContext  # noqa: PLC0415
    from openfeature.flag_evaluation import FlagResolutionDetails, Reason  # noqa: PLC0415
    from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider  # noqa: PLC0415

    from benchmarks.sdk import minimal  # noqa: PLC0415

    bare = minimal()

    def evaluated(_flag: Any, context: EvaluationContext) -> FlagResolutionDetails[str]:
        if context.attributes.get("country") not in COUNTRIES:
            return FlagResolutionDetails("", reason=Reason.DEFAULT)
        name = bare(context.targeting_key or "", {})
        return FlagResolutionDetails(name or "", reason=Reason.SPLIT, variant=name)

    flag = InMemoryFlag("control", {name: name for name in NAMES}, context_evaluator=evaluated)
    api.set_provider_and_wait(InMemoryProvider({KEY: flag}), "memory")
    client = api.get_client("memory")
    return lambda user, attributes: client.get_string_value(KEY, "", EvaluationContext(user, attributes)) or None


PEERS: Mapping[str, Callable[[], Decide]] = {
    "growthbook": growthbook,
    "statsig": statsig,
    "eppo": eppo,
    "unleash": unleash,
    "optimizely": optimizely,
    "OpenFeature in memory": in_memory,
}
