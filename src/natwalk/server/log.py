"""The server's log: structured lines as text or JSON, without secrets, and without addresses unless asked.

Nothing here is of the process: a log is an object that the parts of a server are given. Only
:class:`StandardLogs` ties Python's own logging, which libraries use, to one.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol, cast

import structlog

from natwalk.core import Address
from natwalk.server.schema import LogSection

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
ADDRESS_KEYS: Final = frozenset(
    {"client", "listener", "relay", "relays", "advertised", "peer", "source", "proxy"}
)
"""Keys whose values are addresses of others, left out unless ``[log] addresses`` is on."""
HIDDEN: Final = "[secret]"
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.:/@%+,\[\]-]+")
_SHORTEST_SECRET: Final = 4
_Event = MutableMapping[str, Any]


class Lines(Protocol):
    """Where finished lines go, such as a :class:`~natwalk.server.lines.LineWriter`."""

    def write(self, line: str) -> bool:
        """Take a line; False when it was dropped."""


class ServerLog:
    """Writes events to ``lines``; ``debug``, ``info``, ``warning`` and ``error`` take an event and fields."""

    def __init__(self, lines: Lines, section: LogSection, secrets: Iterable[str] = ()) -> None:
        self._lines = lines
        self._logger = structlog.wrap_logger(
            object(),
            processors=[self._without_addresses, _stamp, self._redact, self._render],
            wrapper_class=_Bound,
        )
        self.reconfigure(section, secrets)

    def reconfigure(self, section: LogSection, secrets: Iterable[str]) -> None:
        """Use ``section`` from now on, and keep ``secrets`` out of every line."""
        self.section = section
        self._level = LEVELS[section.level]
        # the longest first, so that none is left standing because a part of it was replaced
        known = sorted({s for s in secrets if len(s) >= _SHORTEST_SECRET}, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, known))) if known else None

    def debug(self, event: str, **fields: object) -> None:
        """Log what only helps to find a fault."""
        self._log("debug", event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Log what happened in the ordinary course."""
        self._log("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Log what an operator should look at."""
        self._log("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Log what does not work."""
        self._log("error", event, fields)

    def _log(self, level: str, event: str, fields: Mapping[str, object]) -> None:
        if LEVELS[level] >= self._level:
            self._logger.log(level, event, **fields)

    def _without_addresses(self, logger: object, level: str, event: _Event) -> _Event:
        if not self.section.addresses:
            for key in ADDRESS_KEYS & event.keys():
                del event[key]
        return event

    def _redact(self, logger: object, level: str, event: _Event) -> _Event:
        return cast(_Event, {key: self._clean(value) for key, value in event.items()})

    def _clean(self, value: object) -> object:
        match value:
            case None | bool() | int() | float():
                return value
            case Address():
                return str(value)
            case list() | tuple() | set() | frozenset():
                return [self._clean(each) for each in value]
            case dict():
                return {str(self._clean(key)): self._clean(each) for key, each in value.items()}
            case _:
                text = str(value)
                return text if self._secrets is None else self._secrets.sub(HIDDEN, text)

    def _render(self, logger: object, level: str, event: _Event) -> str:
        render: Callable[[_Event], str] = _json if self.section.format == "json" else _text
        self._lines.write(render(event))
        raise structlog.DropEvent


class _Bound(structlog.BoundLoggerBase):
    """structlog's processors without a logger of its own behind them: the last one writes."""

    def log(self, level: str, event: str, **fields: object) -> None:
        self._proxy_to_logger(level, event, **fields)


class StandardLogs(logging.Handler):
    """Sends what libraries log through Python's logging to a :class:`ServerLog`, tracebacks included."""

    def __init__(self, log: ServerLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Log ``record``; its message and traceback pass the same filters as everything else."""
        try:
            fields: dict[str, object] = {"logger": record.name}
            if record.exc_info and record.exc_info[0] is not None:
                fields["traceback"] = "".join(traceback.format_exception(*record.exc_info)).rstrip()
            write = self._log.error if record.levelno >= logging.ERROR else self._log.warning
            write(record.getMessage(), **fields)
        except Exception:  # what the handlers of the standard library do: logging never raises
            self.handleError(record)


def _stamp(logger: object, level: str, event: _Event) -> _Event:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"time": now, "level": level, "event": event.pop("event"), **event}


def _json(event: _Event) -> str:
    return json.dumps(event, separators=(",", ":"), default=str)


def _text(event: _Event) -> str:
    rest = dict(event)
    time, level, what = rest.pop("time"), rest.pop("level"), rest.pop("event")
    trace = rest.pop("traceback", None)
    parts = [f"{time} {level:<7} {_quoted(str(what), spaces=True)}"]
    parts += [f"{key}={_value(value)}" for key, value in rest.items()]
    line = "  ".join(parts)
    return line if trace is None else f"{line}\n{trace}"


def _value(value: object) -> str:
    match value:
        case None:
            return "-"
        case list():
            return ",".join(_value(each) for each in value) or "-"
        case float():
            return f"{value:g}" if abs(value) < 1e6 else f"{value:.0f}"
        case _:
            return _quoted(str(value))


def _quoted(text: str, *, spaces: bool = False) -> str:
    """``text`` as it is when a terminal cannot be fooled with it, else as a JSON string."""
    plain = text.replace(" ", "") if spaces else text
    return text if _PLAIN.fullmatch(plain) else json.dumps(text)
