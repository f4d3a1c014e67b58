"""The recipe that builds the embedded kit `letters`: fonts -> pictures -> classifier -> generator."""
