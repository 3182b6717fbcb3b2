"""The Faust agents, one stage a file."""
