"""E-mail campaigns: who is written to and what stands in each mail, by the engine that serves.

A campaign is a file. Its export is a plan (who gets which arm, who is left out and why), then
parts of users answered by the engine, then a manifest. What was sent comes back as events, and
the report compares arms with the hold-out.
"""
