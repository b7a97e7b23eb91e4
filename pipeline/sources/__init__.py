"""One reader a file for each form of English dataset.

A reader is a generator over one source's files that yields `Example` or, for a record that can't be used, `SourceError`; it streams, and it never
stops at a bad record. `read.py` runs the readers of a mix, checks ids and images, and gives the table of examples and the ledger.
"""
