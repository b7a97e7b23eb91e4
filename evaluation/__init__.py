"""Measures a Vision-LLM on the benchmarks of the mBLIP paper: one file a benchmark, protocols by name, one command (`evaluate.py`).

Nothing in pipeline/, model/ or training/ imports from here.
"""
