"""Makes the helpers beside the tests importable, and ppgen's tiny models."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
for folder in (HERE, HERE / "report", HERE.parent / "generate"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
