"""What turns English vision-language data into multilingual shards.

Every stage is a pure function from Arrow tables and a configuration to an Arrow table (`corpus.py` has the schemas, `docs/formats.md` their
meaning). Nothing here knows of Prefect or of training; `flows/` puts the stages in order.
"""
