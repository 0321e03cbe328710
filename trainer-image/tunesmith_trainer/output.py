"""The job's output as the spec names it: its credentials, looked at before anything is spent."""

from tunesmith_api import JobConfig, Scheme, parse_uri
from tunesmith_trainer.credentials import Credentials, read_credentials
from tunesmith_trainer.errors import OutputNotWritableError
from tunesmith_trainer.retry import Retry
from tunesmith_trainer.stores import open_remote

FIELD = "spec.output"


def check_output(config: JobConfig) -> Credentials:
    """The output's credentials: a key that is missing is told before any training, not after it.

    Raises:
        InputNotFoundError: a key is missing.
        BadConfigError: the keys cannot be understood.
    """
    output = config.spec.output
    if output is None:
        return Credentials()
    location = parse_uri(output.uri)
    credentials = read_credentials(config, FIELD, location.scheme, output.secret_ref, writes=True)
    if location.scheme in {Scheme.S3, Scheme.GS, Scheme.AZ}:
        open_remote(location, credentials, Retry(), field=f"{FIELD}.uri", refusal=OutputNotWritableError)
    return credentials
