"""What watches a worker from outside: metrics and traces."""
