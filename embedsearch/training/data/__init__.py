"""What is trained on: lists of photos, their texts and labels, their pixels."""
