"""A server that every rerank client can use as it is: ``modernrank serve``.

    connection ─▶ http/gate ─▶ http/scoring ─▶ wires/.. ─▶ carry_out ─▶ AsyncReranker
     (run, http/connections)    body, key,      body to     the model,
                                limits          call        the parts

``create_app`` gives the ASGI application alone, for other servers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .settings import Settings

if TYPE_CHECKING:
    from .app import create_app
    from .run import run
    from .settings_sources import read_settings

# Imported when they are asked for: the command line reads the settings on every start, and needs none of the extra.
_LATER = {"create_app": "app", "read_settings": "settings_sources", "run": "run"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)


__all__ = ["Settings", "create_app", "read_settings", "run"]
