"""What `benchmarks/accelerator.py` runs, a module a task; `common` has what a task is made of."""

import benchmarks.tasks.stand_in  # noqa: F401, first: the configs import ml_collections, which may not be here
