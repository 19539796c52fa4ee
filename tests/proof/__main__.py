"""`python -m tests.proof`."""

import sys

from tests.proof.command import main

sys.exit(main())
