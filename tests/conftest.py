"""What holds for every test: one thread, so that results and times do not depend on neighbours."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
