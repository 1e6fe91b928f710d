"""What accounting found: one row for each incarnation of a job, in a SQLite file.

Written by SQLAlchemy (`write`), answered from by sqlite3 alone (`read`), which starts ten times faster.
"""
