"""The error of this package, which does not import the engine."""


class EmulatorError(Exception):
    """The emulator cannot be set up as requested; `message` is for the user, `hint` the remedy."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
