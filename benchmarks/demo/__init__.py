"""`make demo`: a simulated node for some seconds, and the shipper on it."""
