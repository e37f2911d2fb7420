"""What subscriptions does, one function each, by what it is done to."""
