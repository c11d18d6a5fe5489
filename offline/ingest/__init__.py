"""From a shop's files to canonical tables: read, map, check, keep apart, store by day.

`offline.ingest.job.ingest` is the way in for code, `offline.ingest.command` for the shell.
Only this package sees raw user and session ids; what it writes holds pseudonyms.
"""
