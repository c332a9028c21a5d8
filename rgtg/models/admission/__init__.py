"""The door before the door: what a model folder holds is tried in a child process before the app's own process touches it."""
