"""What is kept: schema, ids, feature values, events, model bundles and the registry."""
