"""Short answers as people translated them: one CSV a language, and `build.py`, which made them from what packages ship."""
