"""What prepare hands to the later stages."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tunesmith_api.enums import DataFormat
from tunesmith_trainer.errors import InputNotFoundError
from tunesmith_trainer.instructions import Instruction
from tunesmith_trainer.workspace import Workspace


class Prepared(BaseModel):
    """The prepared inputs of a job."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    """Changes when the model, the data or what is done with them changes."""
    model_path: Path
    """Folder of the base model."""
    format: DataFormat
    """Layout of the rows."""
    sequence_length: int
    """Longest row in tokens."""
    lora_targets: list[str]
    """Modules to adapt."""
    stop_token: str
    """The token that ends an answer."""
    labels: list[str] = Field(default_factory=list)
    """Names of the classes, or of the kinds of entities, in the order of their numbers."""
    multiple_labels: bool = False
    """Whether a text may have any number of classes."""
    instruction: Instruction | None = None
    """What the model is asked, where the task has an instruction and the rows are no prompts already."""


def read_prepared(workspace: Workspace) -> Prepared:
    """What prepare left.

    Raises:
        InputNotFoundError: prepare has not run to its end in this workspace.
    """
    try:
        return Prepared.model_validate_json(workspace.prepared.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise InputNotFoundError(f"{workspace.prepared} is absent; run the prepare stage first") from error
