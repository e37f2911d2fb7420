"""The chassis: everything about running a service that is the same whatever the service is about."""
