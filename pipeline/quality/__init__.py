"""How good a translation is: signals give numbers (`score.py` and one file a signal), a policy decides on them (`accept.py`, `policy.yaml`).

A signal never decides and a threshold never touches a text, so a threshold can be changed, and the stored scores judged again, without translating
anything again.
"""
