"""The one error that is the user's to mend. The CLI prints it as one line and exits with 2; nothing else is caught."""


class UserError(ValueError):
    """A mistake in what was given: its message says in one line what was given and what is allowed."""
