"""The fault suite: each fault is a function of (directory, seed, options) that returns the world it left and a line to print."""
