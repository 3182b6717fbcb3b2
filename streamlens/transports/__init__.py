"""Faust's side of the brokers: runs of records as single messages, offsets that we own, recovery of our own."""
