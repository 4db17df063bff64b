"""From coturn's ``turnserver.conf`` to ``natwalk.toml``: every setting is converted, or said why not."""

from natwalk.server.coturn.convert import Conversion, Remark, Verdict, convert, merged
from natwalk.server.coturn.parse import Setting, parse

__all__ = ["Conversion", "Remark", "Setting", "Verdict", "convert", "merged", "parse"]
