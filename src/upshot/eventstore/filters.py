"""Row filters: a targeting rule about the properties of an event, compiled to SQL that means the same on every engine.

What a rule means is said in targeting.py, and what it sees of the properties by `scalars`. Conditions become true or false,
never null, so that `not` is the complement. Texts are compared by code point and numbers as doubles.

No two engines agree on regular expressions, and none knows versions: such a condition is tested here, on the different texts
that its attribute takes, and becomes the list of those for which it holds.

    seen = {name: [text for (text,) in fetch(distinct_texts(...))] for name in attributes_to_see(rule)}
    select(...).where(holds(rule, events.c.properties, forms, seen.__getitem__))
"""

import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Boolean, ColumnElement, FromClause, Select, and_, false, func, not_, or_, select, true

from upshot import targeting
from upshot.errors import Fault, Invalid
from upshot.eventstore.forms import Forms
from upshot.targeting import OPERATORS, SHORTHANDS, Limit, Operator, Scalar, Wanted

MOST_TEXTS: Final = 10_000
_LONGEST: Final = 4 * max(Limit.TEXT, Limit.SEARCHED_TEXT)  # of a text that can hold, in bytes or in characters

_ORDER: Final[Mapping[str, Callable[[Any, Any], ColumnElement[bool]]]] = {
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
}
_NATIVE: Final = {"eq", "ne", "in", "not_in", *_ORDER, "prefix", "suffix", "contains", "exists", "countries"}

Seen = Callable[[str], Sequence[str]]
Condition = ColumnElement[bool]


def scalars(properties: Mapping[str, object]) -> dict[str, Scalar]:
    """What a row filter sees of an event's properties: a list, an object or null is the same as nothing."""
    return {name: value for name, value in properties.items() if isinstance(value, str | bool | int | float)}


def number_of(properties: ColumnElement[Any], name: str, forms: Forms) -> ColumnElement[float]:
    """A property as a double if it is a number, else null; a number that is written as text is none."""
    return forms.number(properties, name)


def attributes_to_see(rule: targeting.Rule) -> tuple[str, ...]:
    """The attributes whose texts `holds` asks for."""
    return tuple(sorted({name for name, test in _conditions(targeting.dump(rule)) if test not in _NATIVE}))


def distinct_texts(
    events: FromClause, conditions: Sequence[Condition], attribute: str, forms: Forms, most: int
) -> Select[str]:
    """The different texts that an attribute takes in some events: `most`, and one more where there are more.

    Those that are too long for any operator are left out.
    """
    text = forms.text(events.c.properties, attribute).label("text")
    query = select(text).select_from(events).where(*conditions, func.length(text) <= _LONGEST)
    return query.distinct().limit(most + 1)


def holds(rule: targeting.Rule, properties: ColumnElement[Any], forms: Forms, seen: Seen) -> Condition:
    """Whether the rule holds for the properties of an event, which are a JSON object as text.

    Args:
        rule: the filter.
        properties: the column.
        forms: the engine's.
        seen: the different texts of each of `attributes_to_see`, as `distinct_texts` finds them.

    Raises:
        Invalid: there are more than MOST_TEXTS of them.
    """
    return _Compiler(properties, forms, seen).rule(targeting.dump(rule), "")


def _conditions(raw: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The attribute and the operator, or the shorthand, of every condition."""
    for key, value in raw.items():
        if key in SHORTHANDS:
            yield SHORTHANDS[key][0], key
        elif key in {"all", "any", "not"}:
            for part in [value] if key == "not" else value:
                yield from _conditions(part)
    if "attribute" in raw:
        yield raw["attribute"], raw["operator"]


@dataclass(frozen=True, slots=True)
class _Compiler:
    properties: ColumnElement[Any]
    forms: Forms
    seen: Seen

    def rule(self, raw: Mapping[str, Any], at: str) -> Condition:
        """A rule as it was written, which is at a place in the whole one."""
        parts: list[Condition] = [true()]
        for key, value in raw.items():
            place = f"{at}/{key}"
            if key in SHORTHANDS:
                attribute, row = SHORTHANDS[key]
                parts.append(self._condition(attribute, key, row, value, place))
            elif key == "not":
                parts.append(not_(self.rule(value, place)))
            elif key in {"all", "any"}:
                combined = and_ if key == "all" else or_
                parts.append(combined(*(self.rule(part, f"{place}/{n}") for n, part in enumerate(value))))
        if "attribute" in raw:
            name = raw["operator"]
            parts.append(self._condition(raw["attribute"], name, OPERATORS[name], raw["value"], f"{at}/value"))
        return and_(*parts)

    def _condition(self, attribute: str, name: str, row: Operator, value: object, at: str) -> Condition:
        operand = row.check(value, at)
        if name in _NATIVE:
            return self._native(attribute, name, operand)
        texts = self.seen(attribute)
        if len(texts) > MOST_TEXTS:
            message = f"looks at an attribute that takes more than {MOST_TEXTS:,} different texts"
            raise Invalid.of(Fault(at, "too_many_values", message))
        holding = [text for text in texts if row.holds([text], operand)]
        return _certain(self._among(self.forms.text(self.properties, attribute), holding))

    def _native(self, attribute: str, name: str, operand: Any) -> Condition:
        text = self.forms.text(self.properties, attribute)
        if name in {"eq", "in"}:
            return self._equal(attribute, operand)
        if name in {"ne", "not_in"}:
            return not_(self._equal(attribute, operand))
        if name in _ORDER:
            number = func.coalesce(self.forms.number(self.properties, attribute), self.forms.written(text))
            return _certain(_ORDER[name](number, operand))
        if name == "countries":
            return _certain(self._among(self.forms.folded(text), operand))
        if name == "suffix":
            return _certain(self.forms.ending(text, operand) == operand)
        if name == "exists":
            others = (self.forms.number(self.properties, attribute), self.forms.boolean(self.properties, attribute))
            exists = or_(*(value.is_not(None) for value in (text, *others)))
            return exists if operand else not_(exists)
        place = self.forms.position(text, operand)
        return _certain(place == 1 if name == "prefix" else place > 0)

    def _equal(self, attribute: str, wanted: Wanted) -> Condition:
        """Texts equal texts; whatever is or is written as a boolean or a number equals what means the same, if one is no text."""
        text = self.forms.text(self.properties, attribute)
        pairs = (
            (text, wanted.texts),
            (self.forms.folded(text), _of(str, wanted.others)),
            (self.forms.written(text), _of(float, wanted.others)),
            (self.forms.boolean(self.properties, attribute), _of(str, wanted.meanings)),
            (self.forms.number(self.properties, attribute), _of(float, wanted.meanings)),
        )
        return _certain(or_(*(self._among(value, options) for value, options in pairs if options)))

    def _among(self, value: ColumnElement[Any], options: Collection[Any]) -> Condition:
        if len(options) > 1:
            return self.forms.among(value, sorted(options))
        return value == next(iter(options)) if options else false()


def _of(kind: type, values: Collection[object]) -> list[Any]:
    return [value for value in values if isinstance(value, kind)]


def _certain(condition: Condition) -> Condition:
    """False where a condition is null: the attribute is missing, or no value that the operator takes."""
    return func.coalesce(condition, false(), type_=Boolean)
