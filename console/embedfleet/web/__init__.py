"""The console: an HTTP API in front of a fleet, and a web page in the same application."""
