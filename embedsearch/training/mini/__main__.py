"""``python -m embedsearch.training.mini --help``"""

import sys

from embedsearch.training.mini.make import main

sys.exit(main())
