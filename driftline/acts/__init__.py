"""What people and schedules ask for: rows in the caller's transaction, and jobs that are sent once it commits.

Commands, pages and the scheduler all act through these; none of them commits, all of them write who did it.
"""
