"""Hostile values: what broken, careless and malicious clients send, as fragments of JSON text and as whole bodies.

`EVERYWHERE` may stand in no place of a body, `OF_KIND` not where that kind of value belongs, `OF_TYPE` not where another type
does. `WHOLE` are bodies that are wrong by themselves, `ALTERED` spoils a good one. `hostile_requests.py` puts them in place.
"""

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote

CANARY = "c4n4ry"  # whatever was sent holds it where it can; no answer may


def _nested(depth: int, opening: str = "[", core: str = "", closing: str = "]") -> str:
    return opening * depth + core + closing * depth


_DEEP_OBJECT = ('{"a":', "1", "}")

EVERYWHERE: Mapping[str, str | bytes] = {
    "NaN": "NaN", "minus NaN": "-NaN", "nan": "nan", "Infinity": "Infinity", "minus Infinity": "-Infinity",
    "1e999": "1e999", "-1e999": "-1e999", "a float of 400 digits": "9" * 400 + ".0", "leading zero": "01",
    "plus sign": "+1", "a bare comma": ",", "bare point": ".5", "trailing point": "1.", "hexadecimal": "0x10",
    "digits of Arabic": "١٢",
    "2^53": str(2**53), "-2^53": str(-(2**53)), "2^63": str(2**63), "-2^63 - 1": str(-(2**63) - 1), "2^64": str(2**64),
    "an integer of 5,000 digits": "9" * 5_000, "undefined": "undefined", "True": "True",
    "single quotes": f"'{CANARY}'", "comment": f'/* {CANARY} */ "a"', "two values": '"a" "b"', "trailing comma": "[1,]",
    "lone high surrogate": rf'"{CANARY}\ud800"', "lone low surrogate": rf'"\udc00{CANARY}"',
    "reversed pair": rf'"{CANARY}\udc00\ud800"', "surrogate in a key": rf'{{"\ud800":"{CANARY}"}}',
    "NUL": rf'"{CANARY}\u0000"', "NUL in a key": rf'{{"a\u0000":"{CANARY}"}}', "raw NUL": f'"{CANARY}\x00"',
    "raw line feed": f'"{CANARY}\n"', "raw tab": f'"{CANARY}\t"', "raw control character": f'"{CANARY}\x1f"',
    "unknown escape": rf'"{CANARY}\x41"', "short escape": rf'"{CANARY}\u12"', "unterminated": f'"{CANARY}',
    "invalid UTF-8": b'"c4n4ry\xff"', "overlong UTF-8": b'"c4n4ry\xc0\xaf"', "surrogate in UTF-8": b'"c4n4ry\xed\xa0\x80"',
    "arrays 500 deep": _nested(500), "arrays 5,000 deep": _nested(5_000), "arrays 100,000 deep": _nested(100_000),
    "objects 500 deep": _nested(500, *_DEEP_OBJECT), "objects 5,000 deep": _nested(5_000, *_DEEP_OBJECT),
    "objects 100,000 deep": _nested(100_000, *_DEEP_OBJECT), "arrays 100,000 deep, open": "[" * 100_000,
    "duplicate key": '{"a":1,"a":2}', "duplicate key, white space": '{"a" :1,"a"\t\r\n:2}',
    "duplicate key, escaped": r'{"a":1,"\u0061":2}', "duplicate key below": '{"a":[{"b":1,"b":1}]}',
    "duplicate key beside a fooling text": r'{"a\":":"\":","b":1,"b":"\":"}',
}  # fmt: skip


def _text(content: str) -> str:
    return json.dumps(content)


_TEXTS = {
    "empty": '""', "only white space": '" "', "leading space": f'" {CANARY}"', "trailing space": f'"{CANARY} "',
    "trailing line feed": rf'"{CANARY}\n"', "ideographic space": f'"\u3000{CANARY}"', "no-break space": f'"{CANARY}\u00a0"',
    "line feed": rf'"{CANARY}\nb"', "escape character": rf'"{CANARY}\u001b[2J"', "DEL": f'"{CANARY}\x7f"',
    "C1 control": f'"{CANARY}\u0085b"', "non-character": f'"{CANARY}\uffff"', "over-long": _text(CANARY * 40),
    "a megabyte": _text(CANARY * 170_000),
}  # fmt: skip
_PLACEHOLDERS = ("null", "undefined", "None", "NIL", "NaN", "true", "FALSE", "0", "-1", "anonymous", "Guest", "distinct_id",
                 "id", "user_id", "not_authenticated", "email", "[object Object]", "void",
                 "00000000-0000-0000-0000-000000000000")  # fmt: skip
_INVISIBLE = {"zero width space": "\u200b", "zero width joiner": "\u200d", "right-to-left mark": "\u200f",
              "right-to-left override": "\u202e", "isolate": "\u2066", "byte order mark": "\ufeff", "line separator": "\u2028",
              "Arabic letter mark": "\u061c", "word joiner": "\u2060"}  # fmt: skip
_NUMBERS = {"the text nan": '"nan"', "the text Infinity": '"Infinity"', "a number as text": '"50"', "negative": "-1",
            "barely negative": "-1e-9", "huge": "1e300"}  # fmt: skip
_MOMENTS = {
    "naive": '"2026-01-31T12:00:00"', "only a day": '"2026-01-31"', "epoch seconds": "1767225600",
    "epoch as text": '"1767225600"',
    "epoch milliseconds": "1767225600000", "empty": '""', "words": f'"{CANARY}"', "year 0001": '"0001-01-01T00:00:00Z"',
    "before year 1": '"0001-01-01T00:00:00+23:59"', "year 0000": '"0000-01-01T00:00:00Z"',
    "year 10000": '"10000-01-01T00:00:00Z"',
    "offset of 99 hours": '"2026-01-31T12:00:00+99:00"', "second 60": '"2026-01-31T12:00:60Z"',
    "30 February": '"2026-02-30T12:00:00Z"',
    "month 13": '"2026-13-01T12:00:00Z"', "hour 25": '"2026-01-31T25:00:00Z"', "before 2000": '"1999-12-31T23:59:59Z"',
    "RFC 2822": '"Sat, 31 Jan 2026 12:00:00 GMT"', "time zone by name": '"2026-01-31T12:00:00[Europe/Paris]"',
}  # fmt: skip
_TIMES_TO_COME = {"year 9999": '"9999-12-31T23:59:59Z"', "after year 9999": '"9999-12-31T23:59:59-23:59"'}


def _arms(*arms: Mapping[str, object]) -> str:
    return json.dumps([{"name": f"arm {index}"} | dict(arm) for index, arm in enumerate(arms)])


def _split(*shares: object, field: str = "traffic_allocation") -> str:
    return _arms(*({field: share} for share in shares))


def _where(operator: str, value: object, attribute: str = "country") -> str:
    return json.dumps({"attribute": attribute, "operator": operator, "value": value})


_CONDITION = json.loads(_where("eq", CANARY))
OF_KIND: Mapping[str, Mapping[str, str]] = {
    "any": {},
    "text": {"over-long": _text(CANARY * 2_000)},
    "user": _TEXTS | {f"placeholder {word}": _text(word) for word in _PLACEHOLDERS},
    "type": _TEXTS,
    "event-id": _TEXTS,
    "name": _TEXTS | {label: _text(CANARY + mark + "b") for label, mark in _INVISIBLE.items()},
    "reference": {"unknown": _text(CANARY), "SQL": _text(f"{CANARY}' OR 1=1 --"), "path": '"../../etc/passwd"'},
    "key": {"empty": '""', "upper case": '"ABC"', "space": '"a b"', "accent": '"ä"', "hyphen first": '"-a"',
    "line feed": r'"a\n"',
            "slash": '"a/b"', "over-long": _text("a" * 121)},
    "share": _NUMBERS | {"zero": "0", "over 100": "101", "sum 99": "49", "sum 100.1": "50.1", "null beside a number": "null"},
    "percentage": _NUMBERS | {"over 100": "100.0001", "five decimals": "33.33333"},
    "status": {"empty": '""', "not a state": _text(CANARY), "paused": '"paused"', "archived": '"archived"',
    "spaced": '" running"'},
    "version": {"zero": "0", "negative": "-1", "fraction": "1.5", "text": '"1"', "another": "2147483647"},
    "metric": {"empty": '""', "control character": rf'"{CANARY}\n"', "over-long": _text(CANARY * 40),
    "no event type": '{"key":"a"}',
               "unknown field": json.dumps({"key": "a", "event_type": "b", "sql": CANARY}),
               "unknown kind": json.dumps({"key": "a", "event_type": "b", "kind": CANARY}),
               "list as kind": '{"key":"a","event_type":"b","kind":[]}', "number as key": '{"key":1,"event_type":"b"}'},
    "metrics": {"51 metrics": json.dumps([f"m{index}" for index in range(51)]), "two of one key": json.dumps(
        [{"key": "a", "event_type": "b"}, {"key": "a", "event_type": "c"}])},
    "moment": _MOMENTS,
    "past": _MOMENTS | _TIMES_TO_COME,
    "attribute": {"over-long": _text(CANARY * 200), "nested": json.dumps({"a": CANARY}), "list": json.dumps([CANARY])},
    "context": {"51 attributes": json.dumps({f"a{index}": index for index in range(51)}), "an unnamed attribute": '{"":1}',
                "an over-long name": json.dumps({"a" * 121: 1}), "a control character in a name": r'{"a\nb":1}'},
    "properties": {
        "201 keys": json.dumps({f"k{index}": 1 for index in range(201)}), "an over-long key": json.dumps({"k" * 201: 1}),
        "10,001 properties": json.dumps({f"k{index}": 1 for index in range(10_001)}),
        "8,193 characters": json.dumps({"a": "x" * 8_193}),
        "a megabyte of text": json.dumps({"a": CANARY * 170_000}), "11 levels": '{"a":' + _nested(10) + "}",
        "1,001 items": json.dumps({"a": [1] * 1_001}), "201 keys below": json.dumps({"a": [{f"k{i}": 1} for i in range(200)]}),
        "over 32 KiB": json.dumps({f"k{index}": "x" * 8_000 for index in range(5)})},
    "variants": {
        "none": "[]", "one": _arms({}), "21": _arms(*[{}] * 21), "one name twice": _arms({"name": "a"}, {"name": "a"}),
        "two controls": _arms({"is_control": True}, {"is_control": True}), "sum 99": _split(49, 50), "sum 101": _split(50, 51),
        "negative": _split(150, -50), "zero": _split(100, 0), "all zero": _split(0, 0), "percents and weights": _arms(
            {"traffic_allocation": 50}, {"weight": 0.5}), "one without share": _arms({"weight": 1}, {}),
            "weights of 0.9": _split(
            0.5, 0.4, field="weight"), "negative weight": _split(2, -1, field="weight"),
            "no name": '[{"weight":1},{"weight":1}]',
        "two names of one": _arms({"variant_name": "b"}, {}), "strings": '["a","b"]'},
    "targeting": {
        "unknown operator": _where(CANARY, 1), "operator of another type": '{"attribute":"a","operator":1,"value":1}',
        "no attribute": '{"operator":"eq","value":1}', "nested repetition": _where("regex", "^(a+)+$"),
        "overlapping branches": _where("regex", "(a|a)*b"), "repetitions in a row": _where("regex", ".*.*.*.*.*x"),
        "back reference": _where("regex", r"(a)\1"), "look-behind": _where("regex", "(?<=a)b"),
        "broken pattern": _where("regex", "(["),
        "a huge count": _where("regex", "a{999}{999}"),
        "101 conditions": json.dumps({"all": [_CONDITION | {"value": i} for i in range(101)]}),
        "100,000 conditions": json.dumps({"all": [_CONDITION] * 100_000}), "unknown key": json.dumps({CANARY[:2]: CANARY}),
        "empty group": '{"all":[]}', "empty rule in a group": '{"any":[{}]}', "15 groups deep": _nested(
            15, '{"not":', _where("eq", 1), "}"), "countries as text": '{"countries":"US"}',
            "countries of numbers": '{"countries":[1]}',
        "no version": json.dumps({"min_version": CANARY}), "1,001 values": _where("in", list(range(1_001))),
        "null as value": _where("eq", None), "a condition in a list": f"[{_where('eq', 1)}]"},
    "identities": {"none": "[]", "1,001 links": json.dumps([{"anonymous_id": f"a{n}", "user_id": "u"} for n in range(1_001)])},
    "users": {"none": "[]", "1,001 users": json.dumps([f"u{index}" for index in range(1_001)])},
    "events": {"none": "[]", "10,001 events": json.dumps([{"user_id": f"u{i}", "event_type": "t"} for i in range(10_001)])},
    "sent": {label: _MOMENTS[label] for label in ("naive", "epoch seconds", "epoch as text", "empty", "words",
    "offset of 99 hours")},
    "rows": {},
    "metric-key": _TEXTS | {"slash": f'"{CANARY}/b"', "comma": f'"{CANARY},b"', "dots": '".."', "null": "null"},
    "word": {"empty": '""', "another": _text(CANARY), "spaced": '" sum"', "upper case": '"SUM"', "in a list": '["sum"]'},
    "duration": {"empty": '""', "zero": '"0d"', "negative": '"-1d"', "fraction": '"1.5d"', "no unit": '"7"', "week": '"1w"',
                 "over 400 days": '"401d"', "many digits": _text("9" * 400 + "d"), "ISO 8601": '"P1D"', "Arabic digit": '"٣d"',
                 "line feed": r'"7d\n"', "words": _text(CANARY)},
    "winsorize": {"lower over upper": '{"lower":90,"upper":10}', "unknown field": '{"upper":99,"most":1}',
                  "only zeros": '{"ignore_zeros":true}', "a number": "99"},
    "percentile": _NUMBERS | {"zero": "0", "a hundred": "100"},
    "effect": _NUMBERS | {"zero": "0", "over 10": "10.5"},
    "level": _NUMBERS | {"zero": "0", "one": "1"},
    "amount": {label: text for label, text in _NUMBERS.items() if label != "huge"} | {"zero": "0"},
    "source": {"a type": _text(CANARY), "no event type": '{"where":{}}', "unknown field": '{"event_type":"a","sql":1}',
               "null as type": '{"event_type":null}'},
    "event-types": {"none": "[]", "of numbers": "[1]", "with null": '["a",null]', "with an empty one": '["a",""]'},
    "steps": {"one": '[{"event_type":"a"}]', "11": json.dumps([{"event_type": "a"}] * 11), "texts": '["a","b"]',
              "none": "[]", "one without type": '[{"event_type":"a"},{}]'},
    "plan": {"unknown option": json.dumps({"peeking": CANARY}), "locked definitions": '{"definitions":{}}',
             "a moment": '{"locked_at":"2026-01-31T12:00:00Z"}', "looks without a size": '{"stopping":"group_sequential",'
             '"planned_users":null}'},
    "arms": {"none": "[]", "one": "[1]", "a single one": "1", "too many": "21", "21 shares": json.dumps([1] * 21),
             "zero": "[0,1]", "negative": "[-1,2]", "fractions": "[0.5,0.5]", "a huge one": "[1,1000000001]",
             "a number as text": '"2"'},
    "change": {label: text for label, text in _NUMBERS.items() if "negative" not in label} | {"zero": "0"},
    "reduction": _NUMBERS | {"one": "1"},
    "planned-users": {"zero": "0", "one": "1", "fraction": "2.5", "text": '"10"', "over 10^12": "1000000000001"},
}  # fmt: skip
OF_TYPE: Mapping[str, Sequence[str]] = {
    "s": [f'"{CANARY}"'], "n": ["7", "-1.5"], "b": ["true", "false"], "a": ["[]", f'["{CANARY}"]', "[[]]"],
    "o": ["{}", f'{{"a":"{CANARY}"}}'], "0": ["null"],
}  # fmt: skip

WHOLE: Mapping[str, bytes] = {
    "no body": b"", "white space": b" \r\n\t ", "null": b"null", "true": b"true", "a number": b"0", "a text": b'"c4n4ry"',
    "an empty list": b"[]",
    "lists": b"[[]]", "a list of null": b"[null]", "two documents": b"{}{}", "a form": b"user_id=c4n4ry&event_type=a",
    "XML": b"<a>c4n4ry</a>",
    "YAML": b"user_id: c4n4ry", "single quotes": b"{'user_id': 'c4n4ry'}", "a bare key": b'{user_id: "c4n4ry"}',
    "an open object": b"{",
    "a key alone": b'{"user_id"', "bytes": bytes(range(256)), "zeros": b"\0" * 1_000, "pickle": b"\x80\x04]\x94.",
    "gzip": gzip.compress(b"{}"),
    "arrays 500 deep": b"[" * 500 + b"]" * 500, "arrays 100,000 deep": b"[" * 100_000 + b"]" * 100_000,
    "open arrays": b"[" * 100_000,
    "open objects": b'{"a":' * 50_000, "closing brackets": b"]" * 1_000, "a long text": b'"' + b"c4n4ry" * 100_000 + b'"',
    "a long number": b"1" * 100_000,
}  # fmt: skip
ALTERED: Mapping[str, Callable[[bytes], bytes]] = {
    "byte order mark": lambda good: b"\xef\xbb\xbf" + good, "UTF-16": lambda good: good.decode().encode("utf-16"),
    "UTF-16BE": lambda good: good.decode().encode("utf-16-be"), "UTF-32": lambda good: good.decode().encode("utf-32-le"),
    "truncated by one": lambda good: good[:-1], "the first half": lambda good: good[: len(good) // 2],
    "in a text": lambda good: b'"' + good,
    "a closing bracket more": lambda good: good + b"]", "a second document": lambda good: good + b" " + good,
    "a comma": lambda good: good + b",",
    "a zero behind": lambda good: good + b"\0", "a comment behind": lambda good: good + b" // c4n4ry",
    "JSONP": lambda good: b"f(" + good + b")",
    "in a list of lists": lambda good: b"[[" + good + b"]]", "an anti-hijacking prefix": lambda good: b")]}'," + good,
}  # fmt: skip
UNKNOWN_FIELDS = (
    "client_id",
    "tenant_id",
    "status",
    "assigned_at",
    "id",
    "number",
    "salt",
    "is_admin",
    "__proto__",
    "$where",
    "",
)

USER_IDS = {
    "none": "", "space first": "%20c4n4ry", "space last": "c4n4ry%20", "NUL": "c4n4ry%00", "line feed": "c4n4ry%0A",
    "escape": "%1B[2Jc4n4ry",
    "DEL": "c4n4ry%7F", "C1 control": "c4n4ry%C2%85b", "invalid UTF-8": "c4n4ry%FF", "overlong UTF-8": "c4n4ry%C0%AF",
    "surrogate": "c4n4ry%ED%A0%80", "cut UTF-8": "c4n4ry%E2%82", "non-character": "c4n4ry%EF%BF%BF",
    "ideographic space": "%E3%80%80c4n4ry",
    "over-long": "c4n4ry" * 40, "over-long, encoded": "%C3%A9" * 201, "5,000 characters": "c4n4ry" * 833,
    **{f"placeholder {word}": quote(word) for word in _PLACEHOLDERS},
}  # fmt: skip
QUERIES = {
    "NUL": "a=c4n4ry%00", "over-long": "a=" + "c4n4ry" * 200, "no name": "=c4n4ry", "over-long name": "a" * 121 + "=1",
    "control character in a name": "a%0Ab=c4n4ry", "a name twice": "a=c4n4ry&a=1", "a name twice, encoded": "a=c4n4ry&%61=1",
    "invalid UTF-8": "a=c4n4ry%FF", "surrogate": "a=c4n4ry%ED%A0%80", "51 attributes": "&".join(f"a{i}=1" for i in range(51)),
    "1,000 attributes": "&".join(f"a{i}=1" for i in range(1_000)),
}  # fmt: skip
