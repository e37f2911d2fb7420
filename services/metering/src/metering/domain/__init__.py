"""Rules of counting: no I/O, no clock, no protobuf."""
