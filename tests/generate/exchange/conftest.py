"""Makes the helpers beside the tests importable."""

import sys
from pathlib import Path

if (HERE := str(Path(__file__).parent)) not in sys.path:
    sys.path.insert(0, HERE)
