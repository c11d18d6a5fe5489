"""What is learned of content: texts become vectors and indexes, links become arrays."""
