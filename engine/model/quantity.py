"""Numbers with their nouns."""


def counted(count: int, noun: str) -> str:
    """Return a number and its noun, in the plural unless it is 1: `1 row`, `2,000 rows`."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun}{'es' if noun.endswith(('ch', 's')) else 's'}"
