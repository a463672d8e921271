"""The one error that stands for a mistake in what the user gave."""


class InputError(ValueError):
    """Something the user supplied cannot be used.

    The message says what was wrong, the value seen, where it stands (file, key or line) and what to do about it. The
    `ernie-m` command prints it without a traceback and exits with status 2.
    """
