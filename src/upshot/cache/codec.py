"""How copies cross: frozen dataclasses as JSON, whatever fields they have.

Parts are dataclasses, too, or what JSON and msgspec know (times, enumerations, decimals, mappings). A targeting rule crosses as
it was written and is compiled again, since what it was compiled to cannot cross.
"""

import dataclasses
import hashlib
from typing import Any, Generic, TypeVar, get_type_hints

import msgspec

from upshot import targeting

Thing = TypeVar("Thing")


class Codec(Generic[Thing]):
    """Between a dataclass and JSON.

    Attributes:
        shape: a digest of names and types of all fields, however deep; releases that differ in it do not read each other's.
    """

    def __init__(self, kind: type[Thing]) -> None:
        self._kind = kind
        hints = get_type_hints(kind)
        self._names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]  # it is a dataclass
        self._rules = [name for name in self._names if hints[name] is targeting.Rule]
        types = [(name, dict[str, Any] if name in self._rules else hints[name]) for name in self._names]
        document = msgspec.defstruct(kind.__name__, types, forbid_unknown_fields=True)
        self._decoder = msgspec.json.Decoder(document)
        schema = msgspec.json.encode(msgspec.json.schema(document), order="deterministic")
        self.shape = hashlib.sha256(schema).hexdigest()[:12]

    def encode(self, thing: Thing) -> bytes:
        """The thing as JSON."""
        values = {name: getattr(thing, name) for name in self._names}
        return msgspec.json.encode(values | {name: targeting.dump(values[name]) for name in self._rules})

    def decode(self, content: bytes | msgspec.Raw) -> Thing:
        """The thing that `encode` was given.

        Raises:
            ValueError: the content is not of `encode`.
        """
        try:
            document = self._decoder.decode(content)
            values = {name: getattr(document, name) for name in self._names}
            return self._kind(**values | {name: targeting.parse(values[name]) for name in self._rules})
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ValueError("not of this kind") from error
