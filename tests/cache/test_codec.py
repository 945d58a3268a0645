"""Copies cross whole, whatever their classes hold, and what is none of ours is refused."""

import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cache import things

from upshot import targeting
from upshot.assignment import Assignment
from upshot.cache import Codec
from upshot.experiments import Experiment

KINDS: tuple[type[Any], ...] = (Experiment, Assignment)
CODECS = {kind: Codec(kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_everything_that_a_class_holds_comes_back(kind: type[Any], data: st.DataObject) -> None:
    """Every field of it and of its parts, those that are added later as well."""
    thing = data.draw(things.values(kind))

    found = CODECS[kind].decode(CODECS[kind].encode(thing))

    assert found == thing
    assert repr(found) == repr(thing)  # 1 is not 1.0, and a list no tuple


@given(st.sampled_from(things.RULES), st.dictionaries(st.sampled_from(["country", "age", "plan"]), st.integers(0, 20)))
def test_a_rule_that_crossed_decides_as_before(written: dict[str, Any], context: dict[str, Any]) -> None:
    """It is compiled again from what was written."""
    rule = targeting.parse(written)
    experiment = dataclasses.replace(things.experiment(), rule=rule)

    crossed = CODECS[Experiment].decode(CODECS[Experiment].encode(experiment)).rule

    assert targeting.matches(crossed, context) == targeting.matches(rule, context)


@pytest.mark.parametrize("lost", [field.name for field in dataclasses.fields(Experiment) if field.init])
def test_a_codec_that_loses_a_field_is_caught(lost: str) -> None:
    """The negative control: without any one of the fields, the content is refused, even where the class has a default."""
    codec = CODECS[Experiment]
    content = msgspec.json.decode(codec.encode(things.experiment()))
    del content[lost]

    with pytest.raises(ValueError, match="not of this kind"):
        codec.decode(msgspec.json.encode(content))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"",
        lambda _: b"null",
        lambda _: b"[]",
        lambda content: content[:-1],
        lambda content: content + b"}",
        lambda _: b"[" * 100_000,
        lambda content: content.replace(b'"version":1', b'"version":"1"'),
        lambda content: content.replace(b'"status":"running"', b'"status":"gone"'),
        lambda content: content.replace(b'"rule":{}', b'"rule":{"attribute":"a"}'),
        lambda content: content.replace(b'"rule":{}', b'"rule":{},"more":1'),
        lambda content: content.replace(b"Test", b"\xff\xfe"),
        lambda content: content.replace(b'"weight":1,', b'"weight":0,'),
        lambda content: content.replace(b'"traffic":1000000', b'"traffic":-1'),
        lambda _: pickle.dumps(things.experiment().id),
        lambda _: CODECS[Assignment].encode(things.assignment()),
    ],
)
def test_what_is_none_of_ours_is_refused(spoil: Callable[[bytes], bytes]) -> None:
    """By one error, whatever is wrong with it."""
    codec = CODECS[Experiment]
    content = codec.encode(things.experiment())
    spoilt = spoil(content)

    assert codec.decode(content) == things.experiment()
    assert spoilt != content
    with pytest.raises(ValueError):  # noqa: PT011 - the words are of no matter
        codec.decode(spoilt)


def test_a_class_with_other_fields_has_another_shape() -> None:
    """However deep they are, and whatever they have for a default: releases do not read each other's copies."""
    inner = dataclasses.make_dataclass("Inner", [("a", int)], frozen=True)
    deeper = dataclasses.make_dataclass("Inner", [("a", int), ("b", int, 0)], frozen=True)
    several: Any = tuple[inner, ...]  # type: ignore[valid-type]
    fields: list[list[Any]] = [
        [("part", inner)],
        [("part", deeper)],
        [("part", inner), ("more", str, "")],
        [("part", several)],
    ]
    classes = [dataclasses.make_dataclass("Outer", each, frozen=True) for each in fields]

    shapes = [Codec(each).shape for each in classes]

    assert len(set(shapes)) == 4
    assert Codec(classes[0]).shape == shapes[0]
