"""Only the environment of this folder has LangChain."""

from __future__ import annotations

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("langchain_core") else ["*"]
