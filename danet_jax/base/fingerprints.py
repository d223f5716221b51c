"""When a few numbers of two sets of examples say that they are the same."""

# Each example gives checksums of its id and its label, the means of red, green and blue, and what
# tells a turned or a blurred image from the one that it was made of. Earlier versions noted no more
# than the means.
Fingerprint = list[list[int | float]]
# By so much each number but the checksums may differ: a JPEG is not decoded alike by all libraries.
_TOLERANCE = 2.0


def agree(one: Fingerprint, other: Fingerprint) -> bool:
    """Whether two fingerprints are of the same examples."""
    return len(one) == len(other) and all(
        list(a[:2]) == list(b[:2])
        and all(abs(x - y) <= _TOLERANCE for x, y in zip(a[2:], b[2:], strict=False))
        for a, b in zip(one, other, strict=True)
    )
