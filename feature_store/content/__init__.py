"""What is kept of content: its columns in a bundle, and the features of a question."""
