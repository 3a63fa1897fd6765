"""`python -m chinwag_server.cli`."""

import sys

from chinwag_server.cli import main

sys.exit(main())
