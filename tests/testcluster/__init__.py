"""The ensemble: state machine, storage, shell."""
