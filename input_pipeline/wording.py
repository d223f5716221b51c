"""Numbers in sentences."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """Returns "1 image" or "3 images"; `plural` where it is not the noun and an s."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
