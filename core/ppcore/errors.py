"""The exception for mistakes that the user can correct."""


class UserError(Exception):
    """A mistake in the user's request or data.

    The message is one sentence: what is wrong, what was expected, what to do. Commands print it without a traceback and exit with
    status 2 (see :func:`ppcore.console.run_app`).
    """


def first_line(error: BaseException) -> str:
    """What an error of a library says, as one line for a message; its class if it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def require_positive(name: str, value: float) -> None:
    """Raise UserError unless `value` is a finite number above zero; `name` is the option."""
    if not 0 < value < float("inf"):
        raise UserError(f"{name} is {value}; give a number above zero")
