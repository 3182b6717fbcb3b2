"""Traffic for trying and testing StreamLens: synthetic or from a real trace, sent over HTTP, with an exact oracle."""
