"""`python3 -m vmss` is the command `vmss`."""

import sys

from vmss.commands import main

sys.exit(main())
