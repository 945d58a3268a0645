"""How copies cross: frozen dataclasses as JSON, whatever fields they have.

Parts are dataclasses, too, or what JSON and msgspec know (times, enumerations, decimals, mappings). A targeting rule crosses as
it was written and is compiled again, since what it was compiled to cannot cross; so is what a class makes of its other fields.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from upshot import targeting
from upshot.targeting import Rule

Thing = TypeVar("Thing")


class Codec(Generic[Thing]):
    """Between a dataclass and JSON.

    Attributes:
        shape: a digest of names and types of all fields, however deep; releases that differ in it do not read each other's.
    """

    def __init__(self, kind: type[Thing]) -> None:
        hint: Any = kind
        document = _document(hint)
        self._decoder = msgspec.json.Decoder(document)
        self._read = _reader(hint)
        schema = msgspec.json.encode(msgspec.json.schema(document), order="deterministic")
        self.shape = hashlib.sha256(schema).hexdigest()[:12]

    def encode(self, thing: Thing) -> bytes:
        """The thing as JSON."""
        return msgspec.json.encode(_written(thing))

    def decode(self, content: bytes | msgspec.Raw) -> Thing:
        """The thing that `encode` was given.

        Raises:
            ValueError: the content is not of `encode`.
        """
        try:
            found: Thing = self._read(self._decoder.decode(content))
        except Exception as error:  # a class may refuse nonsense in any words
            raise ValueError("not of this kind") from error
        return found


@cache
def _types(kind: type[Any]) -> dict[str, Any]:
    """The fields that a class is made from, with their types."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind) if field.init}


def _written(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, Rule):
        return targeting.dump(value)
    if is_dataclass(value):
        kind: Any = type(value)
        return {name: _written(getattr(value, name)) for name in _types(kind)}
    if isinstance(value, tuple):
        return [_written(each) for each in value]
    if isinstance(value, Mapping):
        return {key: _written(each) for key, each in value.items()}
    return value


@cache
def _document(hint: Any) -> Any:
    """The type of what is read for a type: nothing may lack, whatever the class's defaults are, and nothing may be more."""
    if hint is Rule:
        return dict[str, Any]
    if is_dataclass(hint) and isinstance(hint, type):
        types = [(name, _document(each)) for name, each in _types(hint).items()]
        return msgspec.defstruct(hint.__name__, types, forbid_unknown_fields=True)
    origin, inner = get_origin(hint), get_args(hint)
    if origin in {Union, UnionType}:
        return Union[tuple(_document(each) for each in inner)]  # noqa: UP007 - of a list of types
    return origin[tuple(_document(each) for each in inner)] if origin and inner else hint


@cache
def _reader(hint: Any) -> Callable[[Any], Any]:
    """What makes a value of a type from what was read for it."""
    if hint is Rule:
        return targeting.parse
    if is_dataclass(hint) and isinstance(hint, type):
        readers = {name: _reader(each) for name, each in _types(hint).items()}
        return lambda found: hint(**{name: read(getattr(found, name)) for name, read in readers.items()})
    origin, inner = get_origin(hint), [_reader(each) for each in get_args(hint)]
    if all(read is _same for read in inner):
        return _same
    if origin is tuple and len(inner) == 2 and get_args(hint)[1] is ...:
        return lambda found: tuple(inner[0](each) for each in found)
    if origin is tuple:
        return lambda found: tuple(read(each) for read, each in zip(inner, found, strict=True))
    if origin in {Union, UnionType}:
        (some,) = (read for read in inner if read is not _same)  # beside None, or what needs no hand
        return lambda found: None if found is None else some(found)
    if origin in {Mapping, dict}:
        return lambda found: {key: inner[1](each) for key, each in found.items()}
    raise TypeError(f"rules or classes cannot cross in a {origin}")


def _same(found: Any) -> Any:
    return found
