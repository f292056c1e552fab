"""The errors of the trainer's data preparation, each named for its cause."""

from __future__ import annotations

from rerank_server.contract.errors import RerankError


class LogConfigError(RerankError):
    """A log configuration with an unknown key, a wrong type or a value out of range."""


class LogError(RerankError):
    """A log that cannot be prepared; its children say why."""


class LogFileError(LogError):
    """A file of the log that is missing, truncated or of an unknown format."""


class LogColumnError(LogError):
    """A column that is missing, renamed or of a type that cannot be read."""


class EmptyTableError(LogError):
    """A table without rows, before or after cleaning."""


class TimeValueError(LogError):
    """Times that are text, in another unit than configured, or in the future."""


class DuplicateIdError(LogError):
    """An id that occurs on more than one row of a table that has one row per id."""


class CategoryConflictError(LogError):
    """A product that is listed under more than one category path."""


class SingleCategoryError(LogError):
    """A log with products of one category only, where several are wanted."""


class VectorError(LogError):
    """Vectors of products of mixed width, with numbers that are not finite, or given twice."""


class NumberError(LogError):
    """A NaN or infinite number where a finite one is wanted."""


class LabelError(LogError):
    """Labels outside the range of their objective's type."""


class SparkError(LogError):
    """Spark is asked for and not installed, lacks Java, or cannot be reached."""


class PreparedError(RerankError):
    """A prepared folder that is missing, incomplete or of another format."""


class ConfigError(RerankError):
    """A run's configuration that cannot be used."""


class TrainingError(RerankError):
    """A training run that cannot go on."""


class TeamError(TrainingError):
    """Processes that train together, of which one has gone or cannot be reached."""


class MemoryForecastError(RerankError):
    """A command that would hold more memory than there is."""


class TransferError(RerankError):
    """Sources or a target that nothing can be transferred between."""


class ExportError(RerankError):
    """A trained network that cannot be exported, or whose export does not score alike."""


class DailyError(RerankError):
    """Days that a log does not have, or a plan of days that cannot be followed."""
