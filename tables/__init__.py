"""The table families that the agents keep, one a file."""
