"""What `make bench` measures: one module per part, each with `measure(quick) -> list[Row]`."""
