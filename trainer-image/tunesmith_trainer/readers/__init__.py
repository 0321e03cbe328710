"""Readers of data files: each streams the rows of one kind of file, a buffer at a time, with their numbers."""

from tunesmith_trainer.readers.raw import RawRow, Row

__all__ = ["RawRow", "Row"]
