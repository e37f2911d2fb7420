"""Knows how metering's domain looks on the wire, by resource."""
