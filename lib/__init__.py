"""AdamWPrune: optimizers, pruning and the harness around them. Importing this package imports nothing else."""
