"""Prefect flows: they put the stages of `pipeline/` in order, cut them into tasks, retry and report. Nothing of what a stage does is here."""
