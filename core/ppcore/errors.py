"""The one exception that means "the user can mend this"."""


class UserError(Exception):
    """A mistake in the user's request or data.

    The message is one sentence: what was wrong, what was expected, what to do. Commands print it without a
    traceback and exit with status 2 (see :func:`ppcore.console.run_app`).
    """
