"""`python -m streamer.cli` is `streamer`."""

import sys

from . import main

sys.exit(main())
