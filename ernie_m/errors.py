"""The one error that stands for a mistake in what the user gave."""


class InputError(ValueError):
    """Something the user supplied cannot be used.

    The message says what was wrong, the value seen, where it stands (file, key or line) and what to do about it. The
    `ernie-m` command prints it without a traceback and exits with status 2.
    """


def check_positive(**sizes: int | None) -> None:
    """Refuses sizes below 1.

    Args:
        sizes: Option to value; None where the option is not set.

    Raises:
        InputError: One is below 1.
    """
    for name, size in sizes.items():
        if size is not None and size < 1:
            raise InputError(f"{name} is {size}; it must be at least 1.")
