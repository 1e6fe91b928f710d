"""Every error that we raise by name. One line of text each, for a person to read."""

from __future__ import annotations

__all__ = [
    "BusyError",
    "CalibrationError",
    "ConfigError",
    "CredentialError",
    "GridError",
    "JobImpactError",
    "MailError",
    "MarkError",
    "ProgressError",
    "RecordError",
    "RecordingError",
    "SchedulerError",
    "SchemaTooNewError",
    "StoreError",
]


class JobImpactError(Exception):
    """The root of our own errors: what the command line prints without a traceback."""


class BusyError(JobImpactError):
    """Another process is at the same work: says which, and since when."""


class CalibrationError(JobImpactError):
    """There is nothing to be fitted, or what was fitted cannot be: says why, and what to do."""


class ConfigError(JobImpactError):
    """A configuration or inventory file is wrong: names file, key and what is allowed."""


class CredentialError(JobImpactError):
    """A munge credential cannot be made, or cannot be trusted: says why."""


class GridError(JobImpactError):
    """A source of carbon intensity did not answer, or with what is none: names it and says what it said."""


class MailError(JobImpactError):
    """A mail server or directory did not answer, or refuses us: names it and says what it said."""


class MarkError(JobImpactError):
    """A mark file is not what a hook writes."""


class ProgressError(JobImpactError):
    """What a job says of its progress cannot be said, or is none of ours: says why."""


class RecordingError(JobImpactError):
    """A recording to be replayed has a bad line: names file and line."""


class RecordError(JobImpactError):
    """A scheduler's job record cannot be read: names the row."""


class SchedulerError(JobImpactError):
    """The scheduler did not answer."""


class StoreError(JobImpactError):
    """A database cannot be opened, read or written."""


class UnknownError(StoreError):
    """What was asked for is not there, or is not the asker's to see: the two read the same."""


class SchemaTooNewError(StoreError):
    """A file was written by a newer release than this one."""
