"""The commands of `./fraud`. Standard library only: nothing is installed yet when they run."""
