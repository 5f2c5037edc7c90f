"""What a network costs: operations, bytes, time."""
