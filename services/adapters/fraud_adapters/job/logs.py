"""Structured logs: JSON lines to stderr, a rotating file, syslog, or several of them."""

from __future__ import annotations

import logging
import logging.handlers
import sys
from typing import Any

import orjson
import structlog

from config.settings import ConfigurationError, LogSettings

# The values of these keys are masked in every log record.
_SECRET_KEYS = ("password", "secret", "token", "authorization", "database_url")
_NOISY = ("kafka", "urllib3", "botocore", "boto3", "httpx", "httpcore", "alembic")


def configure(settings: LogSettings, service: str) -> None:
    """Send the logs of this process, including those of libraries, to the sinks of `settings`.

    Raises:
        ConfigurationError: a sink cannot be opened; the sentence names the variable.
    """
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _mask,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _with_service(service),
            structlog.processors.JSONRenderer(serializer=_json),
        ],
    )
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    for name in settings.log_sinks:
        handler = _handler(name, settings)
        handler.setFormatter(formatter)
        root.addHandler(handler)
    root.setLevel(settings.log_level)
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(root.level),
        cache_logger_on_first_use=True,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger: `get_logger(__name__).info("stored", rows=100)`."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger


def _handler(name: str, settings: LogSettings) -> logging.Handler:
    if name == "file":
        assert settings.log_file is not None
        try:
            settings.log_file.parent.mkdir(parents=True, exist_ok=True)
            return logging.handlers.RotatingFileHandler(
                settings.log_file,
                maxBytes=settings.log_file_max_mb * 1_000_000,
                backupCount=settings.log_file_keep,
                encoding="utf-8",
            )
        except OSError as error:
            raise ConfigurationError(
                f"LOG_FILE: {settings.log_file} cannot be written ({error.strerror}): name another file."
            ) from None
    if name == "syslog":
        return _syslog(settings.log_syslog_address)
    return logging.StreamHandler(sys.stderr)


def _syslog(address: str) -> logging.Handler:
    host, _, port = address.rpartition(":")
    target: str | tuple[str, int] = address if address.startswith("/") else (host, int(port or 0))
    try:
        return logging.handlers.SysLogHandler(address=target)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"LOG_SYSLOG_ADDRESS: {address} cannot be reached ({error}): write host:port or a socket's path."
        ) from None


def _with_service(service: str) -> structlog.types.Processor:
    def add(_logger: Any, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        event["service"] = service
        return event

    return add


def _mask(_logger: Any, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    for key in event:
        if any(mark in key.lower() for mark in _SECRET_KEYS):
            event[key] = "***"
    return event


def _json(value: Any, **_options: Any) -> str:
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
