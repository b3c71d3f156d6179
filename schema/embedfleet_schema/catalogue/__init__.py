"""What is known of models: their spaces, files, limits and prices."""
