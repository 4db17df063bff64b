"""The all-in-one server: configuration, STUN and TURN over UDP, rendezvous over WebSocket, a little HTTP."""

from natwalk.server.config import ServeConfig, load
from natwalk.server.errors import ConfigError, StartError

__all__ = ["ConfigError", "ServeConfig", "StartError", "load"]
