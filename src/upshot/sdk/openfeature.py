"""Upshot behind OpenFeature (`pip install upshot[openfeature]`): a provider that decides locally, and a hook for other providers.

    api.set_provider_and_wait(UpshotProvider(ExperimentClient("http://127.0.0.1:8000", "upk_…")))
    api.get_client().get_boolean_value("banner", False, EvaluationContext("user-1", {"country": "US"}))

The targeting key is the user's id. `UpshotTracking` is for those who use the stock OFREP provider, whose evaluations Upshot's
server answers: it tells what was shown and what users did.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import ErrorCode, ProviderNotReadyError
from openfeature.flag_evaluation import FlagEvaluationDetails, FlagResolutionDetails, FlagValueType, Reason
from openfeature.hook import Hook, HookContext, HookHints
from openfeature.provider import AbstractProvider, Metadata
from openfeature.track import TrackingEventDetails

from upshot.sdk.client import ExperimentClient
from upshot.sdk.contract import NOTHING, Evaluation, Recording, T
from upshot.sdk.exchange import Occasion

EXPERIMENT = "experimentKey"
"""The metadata by which an evaluation names its experiment, from this provider as from the server."""

_MESSAGES = {
    ErrorCode.FLAG_NOT_FOUND: "There is no such flag.",
    ErrorCode.TYPE_MISMATCH: "The flag is of another type.",
    ErrorCode.PROVIDER_NOT_READY: "There is no configuration yet.",
    ErrorCode.PARSE_ERROR: "The configuration cannot be read.",
    ErrorCode.TARGETING_KEY_MISSING: "The flag depends on the user: set a targeting key.",
    ErrorCode.INVALID_CONTEXT: "The context cannot be used.",
}


class _Tracking:
    """Tells events with the arguments of an OpenFeature client's `track`."""

    _client: Recording

    def track(
        self,
        tracking_event_name: str,
        evaluation_context: EvaluationContext | None = None,
        tracking_event_details: TrackingEventDetails | None = None,
    ) -> None:
        """Record an event of the user whose targeting key the context has; its value becomes the property `value`."""
        user_id, _ = _user_of(evaluation_context)
        properties: dict[str, Any] = dict(tracking_event_details.attributes) if tracking_event_details else {}
        if tracking_event_details is not None and tracking_event_details.value is not None:
            properties["value"] = tracking_event_details.value
        self._client.track(user_id, tracking_event_name, properties)


class UpshotProvider(_Tracking, AbstractProvider):
    """Resolves flags with an `ExperimentClient`, in this process. Experiments are reached by the flags that they drive.

    Args:
        client: decides, and tells; it is flushed at the provider's shutdown, and yours to close.
        expose: whether an evaluation that gives the variant of a running experiment is an exposure. Without it, attach
            `UpshotTracking` where evaluations are shown to users.
        patience: how long `initialize` waits for a configuration; seconds.
    """

    def __init__(self, client: ExperimentClient, *, expose: bool = True, patience: float = 5.0) -> None:
        super().__init__()
        self._client: ExperimentClient = client
        self._expose = expose
        self._patience = patience
        self._ready = False

    def get_metadata(self) -> Metadata:
        """The name of the provider."""
        return Metadata(name="Upshot")

    def initialize(self, evaluation_context: EvaluationContext) -> None:  # noqa: ARG002
        """Wait for a configuration; from then on changes are told as provider events.

        Raises:
            ProviderNotReadyError: there is none yet. When there is, the provider becomes ready by itself.
        """
        self._client.watch(self._happened)
        self._ready = self._client.ready(self._patience)
        if not self._ready:
            raise ProviderNotReadyError(_MESSAGES[ErrorCode.PROVIDER_NOT_READY])

    def shutdown(self) -> None:
        """Send what waits."""
        self._client.unwatch(self._happened)
        self._client.flush(self._patience)

    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,  # noqa: FBT001 - so says OpenFeature
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        """The value of a boolean flag."""
        return self._resolved(flag_key, default_value, default_value, evaluation_context)

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        """The value of a string flag."""
        return self._resolved(flag_key, default_value, default_value, evaluation_context)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        """The value of an integer flag."""
        return self._resolved(flag_key, 0, default_value, evaluation_context)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        """The value of a number flag."""
        return self._resolved(flag_key, 0.0, default_value, evaluation_context)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        """The value of an object flag."""
        empty: dict[str, Any] = {}
        return self._resolved(flag_key, empty, default_value, evaluation_context)

    def _resolved(
        self, key: str, example: Any, default: T, context: EvaluationContext | None
    ) -> FlagResolutionDetails[T]:
        """`example` is a value of the type that is asked for: a default may be an integer where a float is meant, or a list."""
        user_id, attributes = _user_of(context)
        found = self._client.flag_details(key, user_id, example, attributes, expose=self._expose)
        metadata = self._metadata(found)
        if found.error_code is not None:
            code = ErrorCode(found.error_code)
            return FlagResolutionDetails(default, code, _MESSAGES[code], Reason.ERROR, flag_metadata=metadata)
        return FlagResolutionDetails(
            found.value, reason=Reason(found.reason), variant=found.variant, flag_metadata=metadata
        )

    def _metadata(self, found: Evaluation[Any]) -> dict[str, bool | int | float | str]:
        version = self._client.version
        metadata: dict[str, bool | int | float | str] = {} if version is None else {"version": version}
        return metadata if found.experiment is None else metadata | {EXPERIMENT: found.experiment}

    def _happened(self, occasion: Occasion) -> None:
        if occasion is Occasion.CHANGED:
            self.emit_provider_configuration_changed(ProviderEventDetails(message="There is another configuration."))
        elif occasion is Occasion.STALE:
            self.emit_provider_stale(ProviderEventDetails(message="The server could not be asked for several polls."))
        elif occasion is Occasion.FAILED:
            error = ProviderEventDetails(message="The server's answer is of no use.", error_code=ErrorCode.GENERAL)
            self.emit_provider_error(error)
        else:
            self.emit_provider_ready(ProviderEventDetails())


class UpshotTracking(_Tracking, Hook):
    """For providers of others, such as the stock OFREP provider: tells exposures, as a hook, and events, by `track`.

    An evaluation is an exposure when it gives the variant of a running experiment: the reason is SPLIT, and the metadata have
    `experimentKey`.

    Args:
        client: tells. An `ExperimentClient`, an `AsyncExperimentClient`, or a `FakeClient` in tests.
    """

    def __init__(self, client: Recording) -> None:
        self._client = client

    def after(
        self,
        hook_context: HookContext,
        details: FlagEvaluationDetails[FlagValueType],
        hints: HookHints,  # noqa: ARG002
    ) -> None:
        """Tell the exposure, if it is one."""
        experiment = details.flag_metadata.get(EXPERIMENT)
        user_id, attributes = _user_of(hook_context.evaluation_context)
        if isinstance(experiment, str) and details.variant and user_id and details.reason == Reason.SPLIT:
            self._client.expose(experiment, user_id, details.variant, attributes)


def _user_of(context: EvaluationContext | None) -> tuple[str, Mapping[str, Any]]:
    """The user's id, empty where there is none, and what is known of the user."""
    return ("", NOTHING) if context is None else (context.targeting_key or "", context.attributes)
