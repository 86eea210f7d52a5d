"""What a person asks of a gallery."""
