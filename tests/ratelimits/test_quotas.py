"""Quotas as settings say them."""

import pytest

from upshot.errors import ConfigurationError
from upshot.ratelimits import Quota, connect, quota_of
from upshot.settings import Settings, load

DEFAULTS = {
    "events": (1_000, 5_000),
    "assignments": (2_000, 2_000),
    "management": (10, 50),
    "results": (5, 5),
    "export": (1 / 60, 1),
    "login_address": (20 / 60, 20),
    "login_account": (5 / 60, 5),
    "refresh": (0.5, 30),
    "keys": (10 / 3_600, 10),
}


@pytest.mark.parametrize(
    ("text", "rate", "burst"),
    [
        ("1000/s burst 5000", 1_000, 5_000),
        ("10/s burst 50", 10, 50),
        ("1/min", 1 / 60, 1),
        ("5/min", 5 / 60, 5),
        ("10/h", 10 / 3_600, 10),
        ("10/s burst 1", 10, 1),
        (" 10/S   Burst 50 ", 10, 50),
        ("999999/s burst 9999999", 999_999, 9_999_999),
    ],
)
def test_a_quota_is_read_from_its_text(text: str, rate: float, burst: int) -> None:
    """A number per second, minute or hour, and how many at once: the same number where nothing is said."""
    assert quota_of("events", text) == Quota("events", rate, burst)


def test_off_is_no_quota() -> None:
    """The word means that nothing is counted."""
    assert quota_of("events", "off") is None
    assert quota_of("events", " OFF ") is None


@pytest.mark.parametrize(
    "text",
    ["", "s3cret", "0/s", "-1/s", "1.5/s", "1e3/s", "10", "10/", "/s", "10/d", "10/sec", "10 /s", "10/s burst", "10/s burst 0",
     "10/s burst -5", "10/s burst 5000 burst 1", "10/s, 5/min", "1000000/s", "10/s burst 10000000", "10/s\x00", "١٠/s",
     "off 1/s"],
)  # fmt: skip
def test_what_is_no_quota_is_refused_without_repeating_it(text: str) -> None:
    """The message says what is right, never what was written."""
    with pytest.raises(ValueError, match=r"10/s.*off") as refused:
        quota_of("events", text)

    assert not text.strip() or text not in str(refused.value) or text in "10/s burst 5000"


def test_a_token_comes_after_its_interval_and_all_of_them_within_the_window() -> None:
    """Nanoseconds, so that a bucket needs no fractions."""
    quota = Quota("events", 1_000, 5_000)

    assert (quota.interval, quota.window) == (1_000_000, 5_000_000_000)


def test_the_settings_say_the_published_quotas() -> None:
    """Every default is one, with the rate and the burst that the limits promise."""
    settings = Settings()

    for kind, (rate, burst) in DEFAULTS.items():
        quota = quota_of(kind, getattr(settings, f"limit_{kind}"))

        assert quota is not None
        assert (quota.rate, quota.burst) == (rate, burst), kind


@pytest.mark.parametrize("kind", DEFAULTS)
def test_a_server_does_not_start_with_a_quota_that_is_none(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """The message names the variable and says what is right."""
    monkeypatch.setenv(f"UPSHOT_LIMIT_{kind.upper()}", "hunter2 per day")

    with pytest.raises(ConfigurationError) as refused:
        load()

    assert str(refused.value).startswith(f"UPSHOT_LIMIT_{kind.upper()}: ")
    assert "10/s" in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    ["", "s3cret", "memcached://s3cret@host", "redis://", "redis:///0", "redis://:s3cret@", "redis://:s3cret@host:99999/0",
     "redis://:s3cret@host:port/0", "redis://:s3cret@host/zero", "redis://:s3cret@host/0?db=1", "redis://:s3cret@[host/0"],
)  # fmt: skip
def test_a_limits_url_that_cannot_be_used_is_refused_without_repeating_it(url: str) -> None:
    """The message names the setting, and no part of a password."""
    with pytest.raises(ConfigurationError, match=r"^UPSHOT_LIMITS_URL: ") as refused:
        connect(url)

    assert "s3cret" not in str(refused.value)


def test_the_password_of_the_limits_url_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """`upshot config` prints the host."""
    monkeypatch.setenv("UPSHOT_LIMITS_URL", "redis://:s3cret@host:6379/0")

    assert load().masked()["limits_url"] == "redis://:***@host:6379/0"
