"""What holds for the whole suite: byte code is kept.

Container images like to set PYTHONDONTWRITEBYTECODE. With it, each of the workers rewrites the assertions of every test file anew, and
each of the some hundred processes that tests start compiles whatever it imports: half of the suite's processor time.
"""

import os
import sys

sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
