"""What `benchmarks/accelerator.py` runs, a module a task; `common` has what they share."""
