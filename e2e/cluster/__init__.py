"""A single-node Kubernetes from plain processes: no Docker engine, no virtual machine, no binary downloads."""
