"""What an experiment's numbers say, for readers who look at them whenever they like: pure functions of counts."""
