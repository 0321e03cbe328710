"""Bounded strings and lists: every string of a CRD has a bound, so that CEL rules have a known cost."""

from typing import Annotated

from pydantic import StringConstraints

#: A Kubernetes object's name: RFC 1123, at most a label's length so that children can be labelled with it.
ObjectName = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
#: Name of a job or an endpoint: a Service's name (RFC 1035) with room for `-prepare` within a Job's 63 characters.
WorkloadName = Annotated[str, StringConstraints(min_length=1, max_length=55, pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$")]
#: A name of ours or of a library: column, module, provider.
Identifier = Annotated[str, StringConstraints(min_length=1, max_length=253)]
#: A label's or node selector's value.
LabelValue = Annotated[str, StringConstraints(max_length=63)]
#: A Kubernetes quantity, such as 500m, 2 or 80Gi.
Quantity = Annotated[str, StringConstraints(max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$")]
#: A sentence for people.
Message = Annotated[str, StringConstraints(max_length=2048)]
#: A time stamp, RFC 3339, UTC.
Timestamp = Annotated[str, StringConstraints(max_length=40)]
