"""How text is read: the same code where models of language are learned and where they serve."""
