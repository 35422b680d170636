"""A server that every rerank client can use as it is: ``modernrank serve``.

    connection ─▶ http/gate ─▶ http/scoring ─▶ wires/.. ─▶ carry_out ─▶ AsyncReranker
     (run, http/connections)    body, key,      body to     the model,
                                limits          call        the parts

``create_app`` gives the ASGI application alone, for other servers.
"""

from .app import create_app
from .run import run
from .settings import Settings
from .settings_sources import read_settings

__all__ = ["Settings", "create_app", "read_settings", "run"]
