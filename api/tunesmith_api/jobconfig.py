"""The resolved job: what was decided, and all that a stage needs. One file for the three stages.

The operator writes it as an immutable ConfigMap, mounted at `CONFIG_PATH`; a local run writes it into the run's folder.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from tunesmith_api.finetunejob import FineTuneJobSpec
from tunesmith_api.model import Model
from tunesmith_api.strings import Identifier, Message

CONFIG_PATH = "/etc/tunesmith/job.json"
WORKSPACE_PATH = "/workspace"
#: Where the trainer image keeps the catalog's bundled models; the environment variable overrides it.
BUNDLED_MODELS_PATH = "/opt/tunesmith/models"
BUNDLED_MODELS_VARIABLE = "TUNESMITH_MODELS"
#: Where a stage leaves its Termination; overridden by the environment variable TUNESMITH_TERMINATION_LOG.
TERMINATION_LOG_PATH = "/dev/termination-log"
TERMINATION_LOG_VARIABLE = "TUNESMITH_TERMINATION_LOG"
#: Where the train stage serves /progress and /metrics; 0 in the environment variable turns it off.
PROGRESS_PORT = 8081
PROGRESS_PORT_VARIABLE = "TUNESMITH_PROGRESS_PORT"
#: The index of this pod among the workers; Kubernetes sets it in the pods of an Indexed Job.
WORKER_INDEX_VARIABLE = "JOB_COMPLETION_INDEX"
#: Where the workers meet: host:port of worker 0, under a name that stays when its pod is replaced.
RENDEZVOUS_VARIABLE = "TUNESMITH_RENDEZVOUS"
RENDEZVOUS_PORT = 29500
#: How many threads each numeric library may use; the operator sets them to the CPUs that it asks for.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
#: What the operator and Kubernetes set, or rely on, in the pods of the stages: nobody else may set it there.
OWN_VARIABLES = (
    *THREAD_VARIABLES,
    RENDEZVOUS_VARIABLE,
    WORKER_INDEX_VARIABLE,
    PROGRESS_PORT_VARIABLE,
    TERMINATION_LOG_VARIABLE,
)


class Stage(StrEnum):
    """The three stages, in their order."""

    PREPARE = "prepare"
    TRAIN = "train"
    EXPORT = "export"


class JobConfig(Model):
    """The resolved job."""

    name: Identifier
    """Name of the FineTuneJob."""
    namespace: Identifier = "default"
    """Its namespace; `default` in local runs."""
    uid: Identifier = "local"
    """Its identity."""
    workspace: Message = WORKSPACE_PATH
    """Folder that the stages share."""
    spec: FineTuneJobSpec
    """The spec with every `Auto` of technique and distribution replaced by the planned value."""
    inputs: Annotated[dict[str, str], Field(max_length=16)] = Field(default_factory=dict)
    """URI to local path, for what is mounted (configmap://, pvc://) instead of fetched."""
    outputs: Annotated[dict[str, str], Field(max_length=4)] = Field(default_factory=dict)
    """URI to local path, for where the result is mounted."""
    secrets: Annotated[dict[str, str], Field(max_length=16)] = Field(default_factory=dict)
    """Secret name to the folder where its keys are mounted as files."""
