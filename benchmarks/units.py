"""Numbers as people read them: kB = 1000 bytes, shares as per cent, seconds as a duration."""

from __future__ import annotations

_PREFIXES = ("B", "kB", "MB", "GB", "TB", "PB")


def bytes_text(count: float | None) -> str:
    """Return a byte count with three significant digits.

    Examples
    --------
    >>> bytes_text(1234), bytes_text(999), bytes_text(25_000_000), bytes_text(None)
    ('1.23 kB', '999 B', '25.0 MB', '–')
    """
    return "–" if count is None else _scaled(count, _PREFIXES)


def count_text(count: float | None) -> str:
    """Return a large count with three significant digits.

    Examples
    --------
    >>> count_text(266_610), count_text(42)
    ('267 k', '42')
    """
    return "–" if count is None else _scaled(count, ("", "k", "M", "G", "T", "P")).rstrip()


def _scaled(value: float, prefixes: tuple[str, ...]) -> str:
    step = 0
    while step < len(prefixes) - 1 and abs(value) >= 999.5:
        value, step = value / 1000, step + 1
    digits = 0 if step == 0 or abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    return f"{value:.{digits}f} {prefixes[step]}"


def percent_text(share: float | None, digits: int = 2) -> str:
    """Return a share as per cent.

    Examples
    --------
    >>> percent_text(0.9731), percent_text(None)
    ('97.31 %', '–')
    """
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def ratio_text(ratio: float | None) -> str:
    """Return a ratio with three significant digits, never in scientific notation.

    Examples
    --------
    >>> ratio_text(0.05123), ratio_text(1.0), ratio_text(12.345)
    ('0.0512', '1.00', '12.3')
    """
    if ratio is None:
        return "–"
    if ratio >= 99.95:
        return f"{ratio:.0f}"
    if ratio >= 9.995:
        return f"{ratio:.1f}"
    if ratio >= 0.9995:
        return f"{ratio:.2f}"
    digits, scaled = 3, ratio
    while 0 < scaled < 0.09995 and digits < 8:
        scaled, digits = scaled * 10, digits + 1
    return f"{ratio:.{digits}f}"


def fewer_text(ratio: float | None) -> str:
    """Return own / reference as how many times fewer or more there are.

    Examples
    --------
    >>> fewer_text(0.0061), fewer_text(2.5), fewer_text(1.0), fewer_text(None)
    ('164 × fewer', '2.50 × more', 'as many', '–')
    """
    if ratio is None:
        return "–"
    if 0.995 < ratio < 1.005:
        return "as many"
    return f"{ratio_text(1 / ratio)} × fewer" if ratio < 1 else f"{ratio_text(ratio)} × more"


def fewer_ends(low: float | None, mean: float, high: float | None) -> str:
    """Return the interval of own / reference in the words of `fewer_text`; empty if too narrow.

    Examples
    --------
    >>> fewer_ends(0.005, 0.0061, 0.01), fewer_ends(2, 2.5, 3), fewer_ends(0.5, 0.5, 0.5)
    ('[100, 200]', '[2.00, 3.00]', '')
    """
    if low is None or high is None or high - low < 5e-4 * mean:
        return ""
    ends = (1 / high, 1 / low) if mean < 1 and low > 0 else (low, high)
    return f"[{ratio_text(ends[0])}, {ratio_text(ends[1])}]"


def duration_text(seconds: float | None) -> str:
    """Return seconds as a duration.

    Examples
    --------
    >>> duration_text(0.042), duration_text(75.2), duration_text(7300)
    ('0.042 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def value_text(name: str, value: float | str | None) -> str:
    """Return a value in three digits, or as bytes where its name says so.

    Examples
    --------
    >>> value_text("total_bytes", 1234), value_text("density", 0.05123), value_text("units", 1234)
    ('1.23 kB', '0.0512', '1,234')
    """
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if name.endswith("bytes"):
        return bytes_text(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def printable(text: str) -> str:
    r"""Return a text whose control characters cannot steer a terminal: each is shown by a sign.

    Examples
    --------
    >>> printable("red \x1b[31m, bell \x07")
    'red ␛[31m, bell ␇'
    """
    return text.translate(_SIGNS)


_SIGNS = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"}
_SIGNS |= {0x7F: 0x2421} | dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
