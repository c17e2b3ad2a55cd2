"""Finding and measuring pleural effusion on chest CT."""

__version__ = "0.1.0"
