"""What the chatbot understands is learned here, from texts."""
