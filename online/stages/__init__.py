"""The stages of the pipeline: sources, scorers, selectors, and what holds whatever they do."""
