"""What `benchmarks/accelerator.py` runs, a module a task; `common` has what a task is made of."""
