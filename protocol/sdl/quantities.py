"""Amounts as people write them in SDL files, read as the reference parser reads them.

Sizes and CPU shares with a fraction go through IEEE doubles and are truncated, because Go does so and the version
hash depends on it (`1.001` CPU is 1000 milli).  Prices never touch a float.
"""

from __future__ import annotations

import re
from fractions import Fraction

_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,4})?", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,19}", re.ASCII)
_PRICE = re.compile(r"[-+]?[0-9]*(\.[0-9]{1,18})?", re.ASCII)
_DURATION = re.compile(r"[-+]?(?:([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+")
_DURATION_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_NANOSECONDS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9}
_NANOSECONDS |= {"m": 60 * 10**9, "h": 3600 * 10**9}

BINARY = {f"{letter}i": 1024**power for power, letter in enumerate("KMGTPE", start=1)}
SUFFIXES = {**{letter: 1000**power for power, letter in enumerate("kMGTPE", start=1)}, **BINARY}
PRICE_DECIMALS = 18
_UINT64 = 2**64


class Unreadable(ValueError):
    """Carries what is wrong and what to write instead; the caller knows where."""

    def __init__(self, message: str, suggestion: str = "") -> None:
        super().__init__(message)
        self.suggestion = suggestion


def _float(text: str) -> float:
    if len(text) > 64 or not _FLOAT.fullmatch(text):
        raise Unreadable(f"{text[:40]!r} is not a number")
    value = float(text)
    if value < 0:
        raise Unreadable("it is negative")
    return value


def _truncate(value: float) -> int:
    if value >= _UINT64:
        raise Unreadable("it is larger than 64 bits hold")
    return int(value)


def size_bytes(text: str, suffixes: dict[str, int] = SUFFIXES) -> int:
    """`512Mi`, `1.5Gi`, `1000000` in bytes.  Raises `Unreadable`, suggesting the suffix that was meant."""
    for length in (2, 1):
        unit = suffixes.get(text[-length:]) if len(text) > length else None
        if unit is not None:
            return _truncate(_float(text[:-length]) * float(unit))
    try:
        return _truncate(_float(text))
    except Unreadable:
        raise _unknown_suffix(text, suffixes) from None


def _unknown_suffix(text: str, suffixes: dict[str, int]) -> Unreadable:
    number = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
    suffix = text[len(number) :].strip()
    if number.strip() and _FLOAT.fullmatch(number.strip()) and suffix[:1].upper() in "KMGTPE" and suffix:
        return Unreadable(f"unknown size suffix {suffix[:10]!r}", f"write {number.strip()}{suffix[0].upper()}i")
    return Unreadable(f"{text[:40]!r} is not a size", f"a number with one of {' '.join(suffixes)}")


def cpu_milli(text: str) -> int:
    """`100m` or `0.1` in thousandths of a CPU."""
    if text.endswith("m"):
        if not _DIGITS.fullmatch(text[:-1]):
            raise Unreadable(f"{text[:40]!r} is not a whole number of milli-CPU", "write 500m or 0.5")
        return int(text[:-1])
    return _truncate(_float(text) * 1000.0)


def gpu_units(text: str) -> int:
    if not _DIGITS.fullmatch(text):
        raise Unreadable(f"{text[:40]!r} is not a whole number", "write a whole number of GPUs")
    return int(text)


def price(text: str) -> int:
    """A price times 10^18, exactly."""
    if len(text) > 64 or not _PRICE.fullmatch(text) or not any(sign.isdigit() for sign in text):
        raise Unreadable(
            f"{text[:40]!r} is not a decimal number", f"digits, and at most {PRICE_DECIMALS} after the point"
        )
    whole, _, decimals = text.lstrip("+-").partition(".")
    scaled = int((whole or "0") + decimals.ljust(PRICE_DECIMALS, "0"))
    return -scaled if text.startswith("-") else scaled


def show_price(scaled: int) -> str:
    """A scaled price with all its decimals, as Akash prints it."""
    whole, decimals = divmod(scaled, 10**PRICE_DECIMALS)
    return f"{whole}.{decimals:018d}"


def duration_ms(text: str) -> int:
    """`1h30m` in milliseconds, rounded down; Go's `time.ParseDuration`."""
    if len(text) > 64 or not _DURATION.fullmatch(text):
        raise Unreadable(f"{text[:40]!r} is not a duration", "write 1h, 90m or 3600s")
    total = sum(Fraction(number) * _NANOSECONDS[unit] for number, unit in _DURATION_PART.findall(text))
    if text.startswith("-") or total <= 0:
        raise Unreadable("a duration must be positive")
    return int(total / 10**6)
