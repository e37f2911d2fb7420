"""What the invoicing service does, one function each, by what it is done to."""
