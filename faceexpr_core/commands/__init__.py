"""The command line `faceexpr`, a file for each verb."""
