"""Pack what a GPU machine without network needs: see `gpu/kit.py`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from gpu.kit import main

if __name__ == "__main__":
    sys.exit(main())
