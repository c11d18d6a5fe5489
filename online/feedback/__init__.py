"""What users do and were shown: kept durably, and known to the very next answer."""
