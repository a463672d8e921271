"""Short names of the published ERNIE-M checkpoints."""

PUBLISHED = {
    "ernie-m-base": "susnato/ernie-m-base_pytorch",
    "ernie-m-large": "susnato/ernie-m-large_pytorch",
}


def resolve(name: str) -> str:
    """Return the Hub id behind a short name; a folder or any other Hub id comes back unchanged.

    Args:
        name: A key of `PUBLISHED`, a local folder or a Hub id.
    """
    return PUBLISHED.get(name, name)
