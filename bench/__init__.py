"""Measures a chinwag server: `make bench`, or `python -m bench NAME ...`.

`bench/load` (Go) puts the load on and checks every delivery; what is here starts servers and
loads, reads the servers' CPU and memory from /proc, and prints the table. docs/performance.md
explains the rows. Nothing here is imported by the product.
"""
