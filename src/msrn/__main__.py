"""``python -m msrn`` is ``msrn``."""

import sys

from msrn.cli import main

sys.exit(main())
