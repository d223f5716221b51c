"""When a few numbers of two sets of examples say that they are the same."""

# Each example gives checksums of its id and its label, and the means of red, green and blue.
Fingerprint = list[list[int | float]]
# By so much the mean of a colour may differ: a JPEG is not decoded alike by all libraries.
_TOLERANCE = 2.0


def agree(one: Fingerprint, other: Fingerprint) -> bool:
    """Whether two fingerprints are of the same examples."""
    return len(one) == len(other) and all(
        len(a) == len(b)
        and list(a[:2]) == list(b[:2])
        and all(abs(x - y) <= _TOLERANCE for x, y in zip(a[2:], b[2:], strict=True))
        for a, b in zip(one, other, strict=True)
    )
