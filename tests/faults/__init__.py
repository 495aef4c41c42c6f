"""The fault suite: each fault is a function of (directory, seed, options) that returns the World that it used and a line to print."""
