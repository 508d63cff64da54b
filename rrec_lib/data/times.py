"""Times: in, a number or a date as text; out, nanoseconds since 1970, and the unit that most of a column have."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation

SECOND = 10**9  # nanoseconds: every moment is read without rounding
UNITS = {"s": SECOND, "ms": 10**6, "us": 10**3, "ns": 1}
FIRST, END = 788_918_400 * SECOND, 4_102_444_800 * SECOND  # from 1995, and before 2100
FORMS = (
    "times are read as seconds, milliseconds, microseconds or nanoseconds since 1970, or as dates such as 2023-01-31, "
    "2023-01-31 17:05:00.250 or 2023-01-31T17:05:00+01:00, from 1995 to 2099"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read_time(text: str) -> tuple[str, int] | None:
    """Read a moment; which unit a number has shows by its size, for the ranges from 1995 to 2099 don't overlap.

    Args:
        text: such as ``"1604306697"``, ``"1604306697.25"``, ``"1604306697250"`` or ``"2020-11-02T08:44:57Z"``;
            a date without a zone is UTC.

    Returns:
        The unit, one of ``UNITS`` or ``"iso"``, and nanoseconds since 1970; None if it can't be read.
    """
    if (value := _number(text)) is not None:
        for unit, factor in UNITS.items():
            if FIRST <= value * factor < END:
                return unit, int(value * factor)
    try:
        when = datetime.fromisoformat(text.strip())
        moment = ((when if when.tzinfo else when.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1) * 1000
    except (ValueError, OverflowError):
        return None
    return ("iso", moment) if FIRST <= moment < END else None


def common_unit(units: Counter[str]) -> str:
    """The unit that most moments of a column have; seconds if there is none."""
    return max(("s", "ms", "us", "ns", "iso"), key=lambda unit: units[unit])


def _number(text: str) -> int | Decimal | None:
    if "_" in text or len(text) > 40:  # Python would take 1_000 for a number
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        return None
    return value if value.is_finite() and value.adjusted() < 20 else None
