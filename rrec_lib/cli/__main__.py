"""``python -m rrec_lib.cli``."""

import sys

from rrec_lib.cli.main import main

sys.exit(main())
