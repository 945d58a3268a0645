"""Second factors: the codes of RFC 6238, each good once; recovery codes; and how often one may be wrong."""

from base64 import b32encode
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from upshot.access import factors
from upshot.access.factors import Factor

SECRET = b32encode(b"12345678901234567890").decode()
NOW = datetime(2026, 11, 27, 6, 0, 3, tzinfo=UTC)
FACTOR = Factor("sealed", NOW, NOW)


def code_at(moment: datetime, secret: str = SECRET) -> str:
    """What an app shows at that moment."""
    return factors._totp(secret).generate(int(moment.timestamp())).decode()


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (59, "287082"),
        (1_111_111_109, "081804"),
        (1_111_111_111, "050471"),
        (1_234_567_890, "005924"),
        (2_000_000_000, "279037"),
        (20_000_000_000, "353130"),
    ],
)
def test_codes_are_those_of_the_standard(seconds: int, code: str) -> None:
    """RFC 6238, appendix B, SHA-1, of whose eight digits apps show the last six."""
    moment = datetime.fromtimestamp(seconds, UTC)

    used = factors.used(FACTOR, SECRET, code, moment)

    assert used is not None
    assert used.step == seconds // 30


def check_once(used: Callable[[Factor, str | None, str, datetime], Factor | None]) -> None:
    """A code is good once, and then no earlier one is."""
    first = used(FACTOR, SECRET, code_at(NOW), NOW)
    assert first is not None
    assert used(first, SECRET, code_at(NOW), NOW) is None
    assert used(first, SECRET, code_at(NOW - timedelta(seconds=30)), NOW) is None
    assert used(first, SECRET, code_at(NOW + timedelta(seconds=30)), NOW) is not None


def test_a_code_is_good_once() -> None:
    """Also within its half minute; who looks over a shoulder has nothing."""
    check_once(factors.used)


def test_codes_that_are_good_twice_are_caught() -> None:
    """The negative control: a factor that forgets which code was used."""

    def forgetful(factor: Factor, secret: str | None, code: str, now: datetime) -> Factor | None:
        passed = factors.used(factor, secret, code, now)
        return None if passed is None else replace(passed, step=0)

    with pytest.raises(AssertionError):
        check_once(forgetful)


@pytest.mark.parametrize(
    ("late", "good"), [(-61, False), (-30, True), (0, True), (30, True), (60, False), (86_400, False)]
)
def test_clocks_may_differ_by_one_period(late: int, good: bool) -> None:  # noqa: FBT001 - a parameter of pytest's
    """Before and after."""
    assert (factors.used(FACTOR, SECRET, code_at(NOW), NOW + timedelta(seconds=late)) is not None) is good


@pytest.mark.parametrize("code", ["", "000000", "12345", "1234567", "abcdef", "ÄÖÜ", "१२३४५६", "-", " "])
def test_other_codes_are_none(code: str) -> None:
    """Of any length and any letters."""
    assert factors.used(FACTOR, SECRET, code, NOW) is None


def test_people_may_put_blanks_between() -> None:
    """As apps show them."""
    code = code_at(NOW)

    assert factors.used(FACTOR, SECRET, f" {code[:3]} {code[3:]}", NOW) is not None


def test_after_twenty_wrong_codes_no_right_one_helps() -> None:
    """But a recovery code does, and then codes are good again."""
    codes = factors.new_recovery_codes()
    tried = factors.with_recovery(replace(FACTOR, wrong=factors.WRONG), codes)

    assert factors.used(replace(tried, wrong=factors.WRONG - 1), SECRET, code_at(NOW), NOW) is not None
    assert factors.used(tried, SECRET, code_at(NOW), NOW) is None
    recovered = factors.used(tried, SECRET, codes[0], NOW)
    assert recovered is not None
    assert factors.used(recovered, SECRET, code_at(NOW), NOW) is not None


def test_recovery_codes_are_good_once_and_without_the_secret() -> None:
    """Each of the ten, in capital letters or without dashes, too; none of them is in what is kept."""
    codes = factors.new_recovery_codes()
    factor = factors.with_recovery(FACTOR, codes)
    assert len(set(codes)) == len(factor.recovery) == factors.RECOVERY_CODES
    assert not any(code.replace("-", "") in repr(factor) for code in codes)

    for code in codes:
        passed = factors.used(factor, None, code.replace("-", "").upper(), NOW)
        assert passed is not None
        assert factors.used(passed, None, code, NOW) is None
        factor = passed

    assert factor.recovery == ()


def test_the_address_for_apps() -> None:
    """As the apps' common key URI format has it."""
    secret = factors.new_secret()
    address = urlsplit(factors.address_of(secret, "ann+x@example.com"))

    assert (address.scheme, address.netloc) == ("otpauth", "totp")
    assert address.path == "/Upshot:ann%2Bx%40example.com"
    asked = parse_qs(address.query)
    assert (asked["secret"], asked["issuer"], asked["digits"], asked["period"]) == ([secret], ["Upshot"], ["6"], ["30"])
    assert len(secret) == 32  # 160 bits
    assert factors.new_secret() != secret
