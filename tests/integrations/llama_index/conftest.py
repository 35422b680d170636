"""Only the environment of this folder has LlamaIndex."""

from __future__ import annotations

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("llama_index") else ["*"]
