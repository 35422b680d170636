"""``python -m modernrank``: the command line."""

import sys

from modernrank.cli import main

sys.exit(main())
