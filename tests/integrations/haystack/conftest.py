"""Only the environment of this folder has Haystack."""

from __future__ import annotations

import importlib.util
import os

collect_ignore_glob = [] if importlib.util.find_spec("haystack") else ["*"]

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
