"""`python3 -m vmss` is the command `vmss`."""

import sys

from vmss.cli.main import main

sys.exit(main())
