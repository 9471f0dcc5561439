"""The one error of this package: it imports nothing of the engine that it witnesses."""


class EmulatorError(Exception):
    """The emulator cannot be set up as asked; `message` is for a person, `hint` the way out."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
