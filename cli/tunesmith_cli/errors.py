"""The command line's one error: a sentence for a person, and the exit code."""

from tunesmith_api import ExitCode


class CliError(Exception):
    """Raised when a command cannot go on; the message names what is wrong and the way out."""

    def __init__(self, message: str, exit_code: int = ExitCode.BAD_CONFIG) -> None:
        super().__init__(message)
        self.exit_code = int(exit_code)
