"""The contract between the parts of Tunesmith: resources, resolved jobs, reports, catalog and planner. No I/O."""

from tunesmith_api.architecture import Architecture
from tunesmith_api.catalog import CatalogModel, UnknownPresetError, find_preset, load_catalog
from tunesmith_api.computepool import ComputePoolSpec, ComputePoolStatus
from tunesmith_api.conditions import Condition, ConditionType, Reason
from tunesmith_api.exits import ExitCode, FailureCategory, meaning_of
from tunesmith_api.finetunejob import FineTuneJobSpec, FineTuneJobStatus
from tunesmith_api.jobconfig import JobConfig, Stage
from tunesmith_api.modelendpoint import ModelEndpointSpec, ModelEndpointStatus
from tunesmith_api.reports import ExportReport, Failure, Termination, TrainReport, decode_termination
from tunesmith_api.resolve import Resolution, UnresolvableError, resolve
from tunesmith_api.resource import API_VERSION, GROUP, KINDS, VERSION, ComputePool, FineTuneJob, ModelEndpoint
from tunesmith_api.support import Unsupported, unsupported_endpoint_fields, unsupported_job_fields
from tunesmith_api.uri import Location, Scheme, UriError, parse_uri
from tunesmith_api.validation import InvalidResourceError, parse_resource

__all__ = [
    "API_VERSION",
    "GROUP",
    "KINDS",
    "VERSION",
    "Architecture",
    "CatalogModel",
    "ComputePool",
    "ComputePoolSpec",
    "ComputePoolStatus",
    "Condition",
    "ConditionType",
    "ExitCode",
    "ExportReport",
    "Failure",
    "FailureCategory",
    "FineTuneJob",
    "FineTuneJobSpec",
    "FineTuneJobStatus",
    "InvalidResourceError",
    "JobConfig",
    "Location",
    "ModelEndpoint",
    "ModelEndpointSpec",
    "ModelEndpointStatus",
    "Reason",
    "Resolution",
    "Scheme",
    "Stage",
    "Termination",
    "TrainReport",
    "UnknownPresetError",
    "UnresolvableError",
    "Unsupported",
    "UriError",
    "decode_termination",
    "find_preset",
    "load_catalog",
    "meaning_of",
    "parse_resource",
    "parse_uri",
    "resolve",
    "unsupported_endpoint_fields",
    "unsupported_job_fields",
]
