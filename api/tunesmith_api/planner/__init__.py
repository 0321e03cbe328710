"""What a job needs before anything is spent: what fits, how long it takes, what it costs, and what Auto makes of it.

Pure arithmetic over the catalog's numbers and the job's spec; the operator, the command line and the trainer share it.
"""

from tunesmith_api.planner.auto import ANYWHERE, Settled, settle
from tunesmith_api.planner.choice import Choice, choose_row
from tunesmith_api.planner.job import estimate_job, export_bytes, sequence_length, sharding_of, workload_of
from tunesmith_api.planner.memory import (
    DEFAULT_SEQUENCE_LENGTH,
    DEVICE_FRAMEWORK_BYTES,
    ENCODER_EVALUATION_TOKENS,
    EVALUATION_TOKENS,
    FITTED_LIBRARIES_BYTES,
    FRAMEWORK_BYTES,
    GENERATION_TOKENS,
    ZERO_BUCKET_ELEMENTS,
    ZERO_LIVE_WEIGHTS,
    MemoryEstimate,
    Sharding,
    Workload,
    estimate_export_memory,
    estimate_memory,
)
from tunesmith_api.planner.offers import PoolOffer, asks_for
from tunesmith_api.planner.rows import MARGIN, DataSize, Row, estimate_spending, table
from tunesmith_api.planner.sharing import offload_reasons, share_name
from tunesmith_api.planner.throughput import Spending, spending
from tunesmith_api.planner.trained import shapes_of, trained_parameters
from tunesmith_api.shapes import linear_widths, lora_parameters, widest_rank

__all__ = [
    "ANYWHERE",
    "DEFAULT_SEQUENCE_LENGTH",
    "DEVICE_FRAMEWORK_BYTES",
    "ENCODER_EVALUATION_TOKENS",
    "EVALUATION_TOKENS",
    "FITTED_LIBRARIES_BYTES",
    "FRAMEWORK_BYTES",
    "GENERATION_TOKENS",
    "MARGIN",
    "ZERO_BUCKET_ELEMENTS",
    "ZERO_LIVE_WEIGHTS",
    "Choice",
    "DataSize",
    "MemoryEstimate",
    "PoolOffer",
    "Row",
    "Settled",
    "Sharding",
    "Spending",
    "Workload",
    "asks_for",
    "choose_row",
    "estimate_export_memory",
    "estimate_job",
    "estimate_memory",
    "estimate_spending",
    "export_bytes",
    "linear_widths",
    "lora_parameters",
    "offload_reasons",
    "sequence_length",
    "settle",
    "shapes_of",
    "sharding_of",
    "share_name",
    "spending",
    "table",
    "trained_parameters",
    "widest_rank",
    "workload_of",
]
